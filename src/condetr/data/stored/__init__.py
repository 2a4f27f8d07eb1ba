"""Images that are no files of their own: in tar files, or in object storage, each read where a file would be."""
