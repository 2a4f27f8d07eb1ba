"""The user interface: a page on this machine that shows what trained models find in an image, and where they look."""
