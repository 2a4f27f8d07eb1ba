"""From a trained model folder and an image to detections."""
