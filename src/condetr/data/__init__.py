"""From other people's files to padded batches."""
