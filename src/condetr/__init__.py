"""condetr: detection transformers that converge fast."""

__version__ = "0.1.0.dev0"
