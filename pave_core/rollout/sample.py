"""Rollouts: the images of a training step, and what the likelihood needs of how they came about.

    anchor        x_{k+1} = x_k + (sigma_{k+1} - sigma_k) v(x_k, sigma_k)            Euler, T steps from one noise

branches (G2RPO, arXiv 2510.01982; the authors' released code): for every k in K, G images leave the anchor

    y_i ~ transition(x_k -> sigma_{k+1}), i = 1..G                                   each then finished by a tail

trajectories (Flow-GRPO, arXiv 2505.05470; the paper's Algorithm 1): G images with noise at every k in K

    x_{k+1}^i ~ transition(x_k^i -> sigma_{k+1}) for k in K, Euler for the others    finished by a tail after the last

Trajectories begin with a noise each, or with the anchor's (DanceGRPO, arXiv 2505.07818), which they then leave at the
first k in K. Tails are deterministic and not in the likelihood, so that any solver on any grid may walk them: it only
makes the reward's estimate more or less exact. On coarser tails each image is finished again (G2RPO).

All branches of a k share one x_k, so that the update needs the network at one point for them whatever G is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor

from ..batches import Batches
from ..config.rollout import RolloutConfig, TailSolver
from ..flow.kernels import transition
from ..flow.solvers import euler, multistep, tail_sigmas
from ..types import Cond, Policy, Rollout
from .walks import Point, Walk, Walks


def sample_rollouts(
    policy: Policy,
    prompts: Sequence[str],
    *,
    conds: Sequence[Cond],
    config: RolloutConfig,
    generators: Sequence[Generator],
    branch_steps: tuple[int, ...] | None = None,
    images: slice = slice(None),
    batches: Batches | None = None,
) -> list[Rollout]:
    """A rollout for each of P prompts, in lock-step.

    conds, generators: P; a generator is on the CPU, so that the noise is the same on any device. branch_steps: K of
    this step; None: those of the config. images: which of a group's are sampled, with the noise that they have in the
    whole group. batches: the run's; None: new ones of config.batch_size.
    """
    walks = Walks(policy, batches or Batches(config.batch_size))
    sigmas = policy.sigmas(config.steps)
    if branch_steps is not None:
        config = replace(config, branch_steps=branch_steps, window_every=0)
    begun = [
        _Sampling(
            policy, prompt, cond=cond, config=config, sigmas=sigmas, generator=generator, images=images, walks=walks
        )
        for prompt, cond, generator in zip(prompts, conds, generators, strict=True)
    ]
    for each in begun:
        each.begin()
    walks.run()
    return [each.rollout() for each in begun]


def sample_anchors(
    policy: Policy, conds: Sequence[Cond], *, generators: Sequence[Generator], steps: int, batches: Batches
) -> Tensor:
    """One image at sigma 0 for each of B prompts, by Euler in `steps` steps: (B, *S). Other arguments as above."""
    walks, sigmas = Walks(policy, batches), policy.sigmas(steps)
    finals = _Finals(1, len(conds))
    for place, (cond, generator) in enumerate(zip(conds, generators, strict=True)):
        x = torch.randn(1, *policy.latent_shape, generator=generator).to(policy.device) * sigmas[0]
        walks.start(_tail(x, sigmas, cond=cond), finals.place(0, place))
    walks.run()
    return finals.stacked().flatten(0, 2)


def contrasted(
    policy: Policy, rollouts: Sequence[Rollout], kept: Tensor, *, config: RolloutConfig, batches: Batches | None = None
) -> list[Rollout]:
    """The rollouts with only some images of each group, finished on the steps of the schedule.

    kept: (P, F, c), the places of the images of each group that stay (see config.contrast); rollouts with M = 1.
    """
    walks = Walks(policy, batches or Batches(config.batch_size))
    narrowed = [_narrowed(rollout, places) for rollout, places in zip(rollouts, kept, strict=True)]
    if config.has_full_tails:
        return narrowed
    finals = [_Finals(1, rollout.finals.shape[1]) for rollout in narrowed]
    for rollout, of_rollout in zip(narrowed, finals, strict=True):
        F = rollout.finals.shape[1]
        for f, (y, k) in enumerate(list(zip(rollout.branches, rollout.branch_steps, strict=True))[-F:]):
            walks.start(_tail(y, rollout.sigmas[k + 1 :], cond=rollout.cond), of_rollout.place(0, f))
    walks.run()
    return [replace(rollout, finals=each.stacked()) for rollout, each in zip(narrowed, finals, strict=True)]


def _narrowed(rollout: Rollout, places: Tensor) -> Rollout:
    """A rollout with the images at `places` (F, c) of its groups."""
    K = len(rollout.branch_steps)
    of_steps = places.expand(K, -1)
    return replace(
        rollout,
        starts=rollout.starts if rollout.starts.shape[1] == 1 else _at(rollout.starts, of_steps),
        branches=_at(rollout.branches, of_steps),
        finals=_at(rollout.finals[0], places)[None],
    )


def _at(values: Tensor, places: Tensor) -> Tensor:
    """values (F, G, *S) at places (F, c) -> (F, c, *S)."""
    return torch.stack([group[index] for group, index in zip(values, places.to(values.device), strict=True)])


class _Finals:
    """The images of a prompt at sigma 0, as they arrive: (M, F, G, *S)."""

    def __init__(self, tails: int, groups: int) -> None:
        self._found: list[list[Tensor | None]] = [[None] * groups for _ in range(tails)]

    def place(self, m: int, f: int) -> Callable[[Tensor], None]:
        """Who takes the images (G, *S) of group f on tail m."""
        return partial(self._found[m].__setitem__, f)

    def stacked(self) -> Tensor:
        """All of them."""
        return torch.stack([torch.stack(groups) for groups in self._found])  # pyright: ignore[reportArgumentType]


class _Sampling:
    """The rollout of one prompt under way."""

    def __init__(
        self,
        policy: Policy,
        prompt: str,
        *,
        cond: Cond,
        config: RolloutConfig,
        sigmas: tuple[float, ...],
        generator: Generator,
        images: slice,
        walks: Walks,
    ) -> None:
        self._prompt, self._cond, self._config, self._sigmas, self._walks = prompt, cond, config, sigmas, walks
        shape, device, G = policy.latent_shape, policy.device, config.group_size
        self._start = torch.randn(1, *shape, generator=generator).to(device) * sigmas[0]
        self._noise = torch.randn(len(config.branch_steps), G, *shape, generator=generator)[:, images].to(device)
        self._own_starts = torch.empty(0)
        if config.exploration == "trajectories":
            self._own_starts = torch.randn(G, *shape, generator=generator)[images].to(device) * sigmas[0]
        self._starts: list[Tensor] = []
        self._branches: list[Tensor] = []
        self._finals = _Finals(config.tails, config.groups)
        self._anchor_final = self._start

    def begin(self) -> None:
        """Start the walks from the first sigma."""
        self._walks.start(self._anchor(), self._end_of_anchor)
        if self._config.exploration == "trajectories":
            self._walks.start(self._trajectories(self._own_starts, 0), self._finish_trajectories)

    def rollout(self) -> Rollout:
        """The rollout, when all walks have ended."""
        return Rollout(
            prompt=self._prompt,
            cond=self._cond,
            sigmas=self._sigmas,
            branch_steps=self._config.branch_steps,
            starts=torch.stack(torch.broadcast_tensors(*self._starts)),
            branches=torch.stack(self._branches),
            finals=self._finals.stacked(),
            anchor_final=self._anchor_final,
        )

    def _end_of_anchor(self, x: Tensor) -> None:
        self._anchor_final = x

    def _leave_anchor(self, x: Tensor, v: Tensor, k: int) -> None:
        """Let the images of step k leave the anchor, at x (1, *S) with the velocity v."""
        y = self._noisy(x, v, k)
        if self._config.in_branches or len(self._config.branch_steps) == 1:
            self._finish(y, k, f=len(self._branches) - 1)
        else:
            self._walks.start(self._trajectories(y, k + 1), self._finish_trajectories)

    def _anchor(self) -> Walk:
        """The deterministic walk, which branches leave at each branch step, trajectories of one noise at the first."""
        steps = self._config.branch_steps
        leaving = {"branches": steps, "trajectories": ()}.get(self._config.exploration, steps[:1])
        x = self._start
        for k, (sigma, sigma_next) in enumerate(pairwise(self._sigmas)):
            v = yield Point(x, sigma, self._cond)
            if k in leaving:
                self._leave_anchor(x, v, k)
            x = euler(x, v, sigma=sigma, sigma_next=sigma_next)
        return x

    def _trajectories(self, x: Tensor, first: int) -> Walk:
        """G walks from x (G, *S) at sigma_k, k = `first`, with noise at the branch steps, up to the last of these."""
        for k in range(first, self._config.branch_steps[-1] + 1):
            v = yield Point(x, self._sigmas[k], self._cond)
            if k in self._config.branch_steps:
                x = self._noisy(x, v, k)
            else:
                x = euler(x, v, sigma=self._sigmas[k], sigma_next=self._sigmas[k + 1])
        return x

    def _noisy(self, x: Tensor, v: Tensor, k: int) -> Tensor:
        """The images (G, *S) sampled from x (N, *S) by the stochastic step k, which are remembered."""
        p = transition(
            x,
            v,
            sigma=self._sigmas[k],
            sigma_next=self._sigmas[k + 1],
            eta=self._config.eta,
            sigma_ceiling=self._sigmas[1],
            kernel=self._config.kernel,
        )
        y = p.sample(self._noise[len(self._branches)])
        self._starts.append(x)
        self._branches.append(y)
        return y

    def _finish_trajectories(self, y: Tensor) -> None:
        self._finish(y, self._config.branch_steps[-1], f=0)

    def _finish(self, y: Tensor, k: int, *, f: int) -> None:
        """Start the tails of the images y (G, *S) of group f, which step k has sampled."""
        config, rest = self._config, self._sigmas[k + 1 :]
        steps = max(1, round(config.tail_steps * (len(rest) - 1) / config.steps)) if config.tail_steps else 0
        first = tail_sigmas(self._sigmas, k + 1, steps) if steps else rest
        grids = [first, *((*first[:-1:n], first[-1]) for n in config.coarser_tails)]
        for m, grid in enumerate(grids):
            tail = _tail(y, grid, cond=self._cond, solver=config.tail_solver)
            self._walks.start(tail, self._finals.place(m, f))


def _tail(x: Tensor, grid: Sequence[float], *, cond: Cond, solver: TailSolver = "euler") -> Walk:
    """The deterministic walk of x (n, *S) along a grid to sigma 0."""
    before: dict[str, Any] = {}
    for sigma, sigma_next in pairwise(grid):
        v = yield Point(x, sigma, cond)
        if solver == "multistep":
            x = multistep(x, v, sigma=sigma, sigma_next=sigma_next, **before)
            before = {"v_before": v, "sigma_before": sigma}
        else:
            x = euler(x, v, sigma=sigma, sigma_next=sigma_next)
    return x
