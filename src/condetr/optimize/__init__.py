"""The fast form of a trained detector, proven equal to the one that reads like the paper."""
