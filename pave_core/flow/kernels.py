"""One SDE transition of Flow-GRPO (arXiv 2505.05470, eq. 9): the "mar" (marginal-preserving) kernel.

From sigma to sigma' with dt = sigma' - sigma < 0 and noise level eta:

    s(sigma) = eta sqrt(sigma / (1 - sigma~))
    mean     = x (1 + s^2 dt / (2 sigma)) + v (1 + s^2 (1 - sigma) / (2 sigma)) dt
    std      = s sqrt(-dt)

sigma~ = min(sigma, ceiling) with a ceiling below 1. The authors' released code replaces sigma by the next grid point,
and only where sigma is exactly 1: a host's schedule that begins at 0.9997 then has a noise std of 6.8 (eta 0.8), which
destroys the sample. A ceiling at the grid's second sigma gives the same at sigma = 1 and is safe just below it.
"""

from __future__ import annotations

from math import sqrt

from torch import Tensor

from ..errors import ConfigError
from ..types import Gaussian


def transition(x: Tensor, v: Tensor, *, sigma: float, sigma_next: float, eta: float, sigma_ceiling: float) -> Gaussian:
    """p(x' | x) of one stochastic step: a Gaussian with a mean of (B, *S).

    x, v: (B, *S), any float dtype; the maths is fp32. 1 >= sigma > sigma_next >= 0 and eta > 0, else ConfigError.
    sigma_ceiling < 1: the largest value of sigma~, the second sigma of the grid that the step belongs to.
    """
    if eta <= 0:
        raise ConfigError(
            f"eta: {eta} is not positive: without noise all branches are the same image; the paper uses 0.8"
        )
    if not 0 <= sigma_next < sigma <= 1:
        raise ConfigError(
            f"sigma: a step from {sigma} to {sigma_next} does not go down inside [0, 1]: check the sigmas"
        )
    x, v = x.float(), v.float()
    dt = sigma_next - sigma
    s2 = eta**2 * sigma / (1 - min(sigma, sigma_ceiling))
    mean = x * (1 + s2 * dt / (2 * sigma)) + v * ((1 + s2 * (1 - sigma) / (2 * sigma)) * dt)
    return Gaussian(mean, sqrt(s2 * -dt))
