"""Blocks that several detectors share. No detector is named here."""
