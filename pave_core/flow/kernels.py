"""The stochastic kernels: one step p(x' | x) from sigma to sigma', with dt = sigma' - sigma < 0 and noise level eta.

"mar"       the marginal-preserving SDE of Flow-GRPO (arXiv 2505.05470, eq. 9):
                s(sigma) = eta sqrt(sigma / (1 - sigma~))
                mean     = x (1 + s^2 dt / (2 sigma)) + v (1 + s^2 (1 - sigma) / (2 sigma)) dt
                std      = s sqrt(-dt)

"cps"       the coefficients-preserving step of Flow-CPS (arXiv 2509.05952; "snr" in the released code of Pave-GRPO):
                x0^  = x - sigma v          eps^ = x + (1 - sigma) v
                std  = sigma' sin(eta pi / 2)
                mean = (1 - sigma') x0^ + sqrt(sigma'^2 - std^2) eps^

"dance"     the SDE of DanceGRPO (arXiv 2505.07818), whose noise is the same at every sigma:
                x0^  = x - sigma v
                mean = x + (v + eta^2 / 2 (x - (1 - sigma) x0^) / sigma^2) dt
                std  = eta sqrt(-dt)

For eta -> 0 each is the Euler step x + v dt. The two SDEs keep the marginals in the limit of dt -> 0. The std of cps
does not fall with dt, so that it has no such limit; but where v belongs to one image x0 alone, it goes from
(1 - sigma) x0 + sigma eps to (1 - sigma') x0 + sigma' eps' in a step of any length.

sigma~ = min(sigma, ceiling) with a ceiling below 1. The released code replaces sigma by the next grid point, and only
where sigma is exactly 1: a host's schedule that begins at 0.9997 then has a noise std of 6.8 (eta 0.8), which destroys
the sample. A ceiling at the grid's second sigma gives the same at sigma = 1 and is safe just below it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import pi, sin, sqrt

import torch
from torch import Tensor

from ..config.rollout import Kernel
from ..errors import ConfigError
from ..types import Gaussian


def transition(
    x: Tensor,
    v: Tensor,
    *,
    sigma: float,
    sigma_next: float,
    eta: float,
    sigma_ceiling: float,
    kernel: Kernel = "mar",
) -> Gaussian:
    """p(x' | x) of one stochastic step: a Gaussian with a mean of (B, *S).

    x, v: (B, *S), any float dtype; the maths is fp32, or fp64 where x is. 1 >= sigma > sigma_next >= 0 and eta > 0;
    with cps also eta <= 1 and sigma_next > 0; else ConfigError. sigma_ceiling < 1: the largest value of sigma~ (used by
    mar alone), the second sigma of the grid that the step belongs to.
    """
    if eta <= 0:
        raise ConfigError(
            f"eta: {eta} is not positive: without noise all branches are the same image; the paper uses 0.8"
        )
    if not 0 <= sigma_next < sigma <= 1:
        raise ConfigError(
            f"sigma: a step from {sigma} to {sigma_next} does not go down inside [0, 1]: check the sigmas"
        )
    precision = torch.promote_types(x.dtype, torch.float32)
    step = _KERNELS[kernel]
    return step(
        x.to(precision), v.to(precision), sigma=sigma, sigma_next=sigma_next, eta=eta, sigma_ceiling=sigma_ceiling
    )


def _mar(x: Tensor, v: Tensor, *, sigma: float, sigma_next: float, eta: float, sigma_ceiling: float) -> Gaussian:
    """Flow-GRPO's SDE."""
    dt = sigma_next - sigma
    s2 = eta**2 * sigma / (1 - min(sigma, sigma_ceiling))
    mean = x * (1 + s2 * dt / (2 * sigma)) + v * ((1 + s2 * (1 - sigma) / (2 * sigma)) * dt)
    return Gaussian(mean, sqrt(s2 * -dt))


def _cps(x: Tensor, v: Tensor, *, sigma: float, sigma_next: float, eta: float, sigma_ceiling: float) -> Gaussian:
    """Flow-CPS's step."""
    if eta > 1:
        raise ConfigError(
            f"eta: {eta} is above 1, from where on the noise of cps, sin(eta pi / 2), falls: use at most 1"
        )
    if sigma_next == 0:
        raise ConfigError(
            f"sigma: cps adds no noise in a step from {sigma} to 0: leave the last step out of branch_steps, or use "
            "the kernel mar"
        )
    x0, eps = x - sigma * v, x + (1 - sigma) * v
    std = sigma_next * sin(eta * pi / 2)
    return Gaussian((1 - sigma_next) * x0 + sqrt(sigma_next**2 - std**2) * eps, std)


def _dance(x: Tensor, v: Tensor, *, sigma: float, sigma_next: float, eta: float, sigma_ceiling: float) -> Gaussian:
    """DanceGRPO's SDE."""
    dt = sigma_next - sigma
    x0 = x - sigma * v
    mean = x + (v + eta**2 / 2 * (x - (1 - sigma) * x0) / sigma**2) * dt
    return Gaussian(mean, eta * sqrt(-dt))


_KERNELS: Mapping[Kernel, Callable[..., Gaussian]] = {"mar": _mar, "cps": _cps, "dance": _dance}
