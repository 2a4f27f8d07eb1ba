"""What reads each layout: a file finds its data in an index, and turns annotations into raw images."""
