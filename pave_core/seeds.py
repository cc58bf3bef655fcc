"""Random generators that are seeded by their purpose, whatever was drawn from others before."""

from __future__ import annotations

import hashlib

import torch


def seeded(seed: int, *progress: int | str) -> torch.Generator:
    """A CPU generator that depends on nothing but (seed, progress)."""
    digest = hashlib.blake2b(repr((seed, *progress)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
