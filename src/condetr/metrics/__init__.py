"""COCO average precision, curves and the confusion matrix."""
