"""Files on disk: atomic writes, untrusted pickles read without running their code, and measurements of this machine."""
