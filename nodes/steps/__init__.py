"""The training loop as nodes."""
