"""From images to numbers: calls of rewards, mixes of rewards, statistics within groups."""
