"""Complete training settings as functions, each with the numbers it is known for."""
