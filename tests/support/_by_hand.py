"""A training step of the toy world, written out image by image: the oracle of what the core does in lock-step."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from pave_core.flow.paving import CoarseStep, paved_transitions


def velocity(policy, x: Tensor, sigma: float, cond) -> Tensor:
    """v of one latent (1, *S), without gradient."""
    with torch.no_grad():
        return policy.model(x, torch.tensor([sigma]), cond[None])


def walked(policy, x: Tensor, sigmas: Sequence[float], cond) -> Tensor:
    """One latent (1, *S) along a grid by Euler's method."""
    for i in range(len(sigmas) - 1):
        x = x + (sigmas[i + 1] - sigmas[i]) * velocity(policy, x, sigmas[i], cond)
    return x


def noisy(policy, x: Tensor, noise: Tensor, k: int, *, sigmas: Sequence[float], eta: float, cond) -> Tensor:
    """One latent (1, *S) after step k of Flow-GRPO's SDE, as its paper writes it:

    dx = [v + s^2 / (2 sigma) (x + (1 - sigma) v)] dt + s sqrt(-dt) noise,  s = eta sqrt(sigma / (1 - sigma))
    """
    sigma, dt, v = sigmas[k], sigmas[k + 1] - sigmas[k], velocity(policy, x, sigmas[k], cond)
    s = eta * sqrt(sigma / (1 - min(sigma, sigmas[1])))
    return x + (v + s**2 / (2 * sigma) * (x + (1 - sigma) * v)) * dt + s * sqrt(-dt) * noise


def z_scores(rewards: Tensor) -> Tensor:
    """Rewards (G,) -> advantages (G,)."""
    return (rewards - rewards.mean()) / rewards.std()


def scored(run, rollouts) -> list[Tensor]:
    """For each rollout, its rewards (M, F, G)."""
    found = []
    for rollout in rollouts:
        images = run.decoder.decode(rollout.finals.flatten(0, 2))
        found.append(run.reward.score(images, [rollout.prompt] * len(images)).total().view(rollout.finals.shape[:3]))
    return found


def loss_by_hand(
    run, rollouts, advantages: Sequence[Tensor], old: dict[Any, Normal] | None = None
) -> tuple[Tensor, dict[Any, Normal]]:
    """The loss of rollouts whose images have `advantages` (F, G), and the densities that are `old` later.

    One network call for one state, and no shortcut: each image has its ratio, through which autograd goes.
    """
    rollout_config, config = run.config.rollout, run.config.pave
    weights = config.step_weights or (1.0,) * len(rollout_config.branch_steps)
    chains = {1: config.plain_weight} | {
        n: (config.segment_weights[i] if config.segment_weights else 1.0) / len(config.segments)
        for i, n in enumerate(config.segments)
    }
    total, densities = torch.zeros(()), {}

    def chain(x, k, cond, n):
        (transitions,) = paved_transitions(
            run.policy.velocity,
            [CoarseStep(x, k, [cond])],
            sigmas=rollout.sigmas,
            eta=rollout_config.eta,
            segments=config.segments,
            kernel=rollout_config.kernel,
            variance=config.variance,
        )
        return Normal(transitions[n].mean, transitions[n].std)

    for p, rollout in enumerate(rollouts):
        for place, k in enumerate(rollout.branch_steps):
            f = place if rollout_config.in_branches else 0
            for i, y in enumerate(rollout.branches[place]):
                x = rollout.starts[place, i % rollout.starts.shape[1]][None]
                share = weights[place] / len(rollouts) / len(rollout.branch_steps) / len(rollout.branches[place])
                for n, weight in chains.items():
                    density = chain(x, k, rollout.cond, n)
                    densities[p, place, i, n] = Normal(density.mean.detach(), density.stddev.detach())
                    before, plain = ((old or densities)[p, place, i, m] for m in (n, 1))
                    z = y if config.residual == "image" else before.mean + (y - plain.mean)
                    ratio = (density.log_prob(z).mean() - before.log_prob(z).mean()).exp()
                    A = advantages[p][f, i]
                    value = A * ratio
                    if config.ratio == "clip":
                        value = torch.minimum(value, A * ratio.clamp(1 - config.clip_range, 1 + config.clip_range))
                    too_far = kl_divergence(density, before).mean() > config.max_divergence
                    if config.ratio == "divergence mask" and too_far and A.sign() == (ratio - 1).sign():
                        value = 0 * value
                    if config.kl_weight:
                        with torch.no_grad(), run.policy.reference():
                            reference = chain(x, k, rollout.cond, n)
                        value = value - config.kl_weight * kl_divergence(density, reference).mean()
                    total = total - share * weight * value
    return total, densities


def descend(run, loss: Tensor) -> None:
    """A step of plain gradient descent on the adapter."""
    parameters = list(run.policy.parameters().values())
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for p, g in zip(parameters, gradients, strict=True):
            p -= run.config.optim.learning_rate * g
