"""The fast form of a trained detector, tested to compute the same as the one in `detectors`."""
