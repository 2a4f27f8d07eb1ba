"""Attention maps of detections, as data and as figures."""
