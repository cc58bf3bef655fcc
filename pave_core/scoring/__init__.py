"""From images to numbers: what a reward must keep to, groups, mixes."""
