"""A training run that a graph of nodes drives."""
