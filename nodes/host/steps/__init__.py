"""Training runs that are driven by a graph of step nodes."""
