"""What the measured ratios must keep to. Standard library only."""

TARGETS = {"rollout / floor": 1.10, "update / floor": 1.15, "other share": 0.05}
"""The most that each may be."""
