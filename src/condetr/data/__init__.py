"""From files in COCO, Pascal VOC or YOLO layout to padded batches."""
