"""Complete training settings as functions, each with its published numbers."""
