"""One file per paper: its settings, its module, its original weight names."""
