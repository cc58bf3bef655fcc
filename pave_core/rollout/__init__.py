"""What is sampled in a training step: its prompts, and a rollout of each."""
