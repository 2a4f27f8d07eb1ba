"""Parts of detectors in forms that a device computes faster, tested to compute the same."""
