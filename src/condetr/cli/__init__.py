"""One module per verb of the command line; heavy imports stay inside the verb."""
