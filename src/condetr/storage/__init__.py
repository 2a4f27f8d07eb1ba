"""Files on disk: atomic writes, and reading untrusted pickles without running their code."""
