"""How many epochs Conditional DETR and DETR need for the same AP, with everything else equal."""
