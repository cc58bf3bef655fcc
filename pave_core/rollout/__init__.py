"""What is sampled in a training step: prompts, and the branches of each."""
