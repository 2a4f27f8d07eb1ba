"""The attention explorer: one HTML file in which a click on a detection shows where every head looks for it."""
