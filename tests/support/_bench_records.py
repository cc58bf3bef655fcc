"""Records of tools/bench.py's learning, made up."""

from __future__ import annotations

from typing import Any

from _bench.campaign import base_config
from _bench.experiments import EXPERIMENTS, LEARNING_RATES, SEARCH_SEEDS

GRPO, PAVED = "T4 K0 GRPO", "T4 K0 {2,3}"


def record(
    name: str,
    seed: int,
    reward: float,
    *,
    rate: float = LEARNING_RATES[0],
    search: bool = False,
    scale: float = 1.0,
    seconds: float = 10.0,
    device: str = "a",
) -> dict[str, Any]:
    """A run whose reward rises as a line from 0.5, and whose adherence is always twice as far from 0."""
    scores = {"reward": reward, "adherence": 2 * reward}
    start = {"reward": 0.5, "adherence": 1.0}
    return {
        **{"experiment": name, "seed": seed, "learning_rate": rate, "search": search, "scale": scale},
        **{"digest": EXPERIMENTS[name].digest(base_config(), scale), "machine": {"device": device}},
        **{"before": start, "after": scores, "seconds": seconds, "images": 640},
        "curve": [[0, 0, 0.0, start], [4, 640, seconds, scores]],
    }


def searched(name: str, **other: Any) -> list[dict[str, Any]]:
    """A search that finds the second learning rate."""
    return [
        record(name, seed, 0.6 + (rate == LEARNING_RATES[1]) * 0.1, rate=rate, search=True, **other)
        for rate in LEARNING_RATES
        for seed in SEARCH_SEEDS
    ]


def counted(name: str, rewards: list[float], **other: Any) -> list[dict[str, Any]]:
    """Runs at that rate, one a seed."""
    return [record(name, seed, reward, rate=LEARNING_RATES[1], **other) for seed, reward in enumerate(rewards)]
