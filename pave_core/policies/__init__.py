"""What can be trained: adapters on a flow model."""
