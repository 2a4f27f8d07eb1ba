"""Synthetic scenes: drawn shapes and digits on textured backgrounds, written as COCO data."""
