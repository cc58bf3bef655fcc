"""What a run is measured by: held-out prompts, guard, reward check."""
