"""A host's flow in the coordinates of the core.

The core's: x = (1 - sigma) x0 + sigma eps, sigma from 1 (noise) to 0, eps of unit variance; v = (x - x0) / sigma. The
host's are a latent y, a noise level s and an estimate D of the data:

    Rectified       y = (1 - s) D + s c eps = c x    s = sigma                  x0 = D / c     CONST
    EDMRectified    y = D + s eps = (1 + s) x        s = sigma / (1 - sigma)    x0 = D         COSMOS_RFLOW

c is the host's noise_scale: 8 for HiDream-O1, else 1. With noise of unit variance the stochastic kernels hold as they
are written. An Euler step here is an Euler step of the host: both go straight from where they are toward D.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_sampling
from torch import Tensor


@dataclass(frozen=True)
class Rectified:
    """The core's coordinates, with noise of another scale."""

    noise_scale: float = 1.0

    def sigmas(self, of_host: Sequence[float]) -> tuple[float, ...]:
        """The host's noise levels as sigmas."""
        return tuple(of_host)

    def to_host(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, *S), sigma (B,) -> the host's latents and noise levels, of the same shapes."""
        return x * self.noise_scale if self.noise_scale != 1 else x, sigma

    def data(self, of_host: Tensor) -> Tensor:
        """The host's latents at noise level 0 (its estimates of them, or samples) as x0."""
        return of_host / self.noise_scale if self.noise_scale != 1 else of_host

    def latent(self, x0: Tensor) -> Tensor:
        """The inverse of data()."""
        return x0 * self.noise_scale


@dataclass(frozen=True)
class EDMRectified:
    """A flow that the host samples at noise levels from 0 to infinity: y = x0 + s eps."""

    def sigmas(self, of_host: Sequence[float]) -> tuple[float, ...]:
        """The host's noise levels as sigmas."""
        return tuple(s / (1 + s) for s in of_host)

    def to_host(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, *S), sigma (B,) below 1 -> the host's latents and noise levels, of the same shapes."""
        return x / (1 - over(sigma, x)), sigma / (1 - sigma)

    def data(self, of_host: Tensor) -> Tensor:
        """The host's latents at noise level 0 as x0: they are the same."""
        return of_host

    def latent(self, x0: Tensor) -> Tensor:
        """The inverse of data()."""
        return x0


Coordinates = Rectified | EDMRectified


def coordinates_of(sampling: Any) -> Coordinates:
    """The coordinates of a host's model_sampling, which must be of a flow (fit.require_flow_model)."""
    if isinstance(sampling, comfy.model_sampling.COSMOS_RFLOW):
        return EDMRectified()
    return Rectified(getattr(sampling, "noise_scale", 1.0))


def velocity(x: Tensor, sigma: Tensor, x0: Tensor) -> Tensor:
    """v = (x - x0) / sigma in fp32; x, x0 (B, *S), sigma (B,)."""
    return (x - x0).float() / over(sigma, x)


def over(sigma: Tensor, x: Tensor) -> Tensor:
    """sigma (B,) with the axes that let it be broadcast over x (B, *S)."""
    return sigma.view(-1, *(1,) * (x.ndim - 1))
