"""From the answer to a question to the scores of its images: the model of Bradley and Terry (1952).

P(i is liked better than j) = sigmoid(s_i - s_j)

s = argmax  sum over (i, j) in pairs of log sigmoid(s_i - s_j)  -  sum_i s_i^2 / 2

pairs are all images that the person compared (Choice.pairs), those of each tier with those of all tiers after it. The
prior, a standard normal, makes the scores finite and unique, and their sum 0: the first term does not change when all
scores move together. Scores are log odds. An image that was not compared has none, as have all where the answer is
"none" or "skipped".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .choice import Choice


def scores_of(choice: Choice, images: int) -> Tensor:
    """The scores of the images of one question: (images,), NaN for those in no tier."""
    scores = torch.full((images,), math.nan)
    places = [place for tier in choice.tiers for place in tier]
    if places:
        pairs = choice.pairs()
        differences = torch.zeros(len(pairs), images, dtype=torch.float64)  # of pair m: s_i - s_j = differences[m] @ s
        for m, (better, worse) in enumerate(pairs):
            differences[m, better], differences[m, worse] = 1, -1
        scores[places] = most_likely(differences[:, places]).float()
    return scores


def most_likely(
    differences: Tensor,
    *,
    offsets: Tensor | float = 0.0,
    variance: float = 1.0,
    start: Tensor | None = None,
) -> Tensor:
    """argmax_u  sum_m log sigmoid(offsets_m + differences_m . u) - |u|^2 / (2 variance), by Newton's method.

    differences: (M, n), of the better from the worse; offsets: (M,). start: (n,), near the result; None: 0.
    Returns (n,) with about half of the digits of the differences' dtype.
    """
    n = differences.shape[1]
    u = differences.new_zeros(n) if start is None else start
    prior = torch.eye(n, dtype=u.dtype) / variance
    enough = torch.finfo(u.dtype).eps ** 0.5

    def objective(u: Tensor) -> Tensor:
        return F.logsigmoid(offsets + differences @ u).sum() - u.square().sum() / (2 * variance)

    value = objective(u)
    while True:
        p = torch.sigmoid(offsets + differences @ u)
        gradient = differences.T @ (1 - p) - u / variance
        step = torch.linalg.solve(curvature(differences, p * (1 - p)) + prior, gradient)
        while (there := objective(u + step)) < value and step.abs().max() > enough:
            step = step / 2  # Newton's step can go too far
        if step.abs().max() <= enough * (1 + u.abs().max()):
            return u + step
        u, value = u + step, there


def curvature(differences: Tensor, weights: Tensor) -> Tensor:
    """sum_m weights_m differences_m differences_m^T: (n, n)."""
    return differences.T @ (weights[:, None] * differences)
