"""Files on disk: written whole or not at all, and pickles of strangers read without running them."""
