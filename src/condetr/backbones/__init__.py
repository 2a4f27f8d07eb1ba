"""From an image to a feature map."""
