"""The gradient of what was sampled: paved transitions of many observed steps in lock-step -> loss -> gradient.

Memory decides how many steps are evaluated together, not what is learnt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batches import Batches
from ..config.objective import PaveConfig
from ..config.train import TrainConfig
from ..flow.paving import CoarseStep, paved_transitions
from ..objective.loss import decomposition_loss
from ..types import Cond, Gaussian, Policy, Rollout
from .state import TrainState
from .steering import Steering


@dataclass(eq=False)
class Observed:
    """A state x_k, what was sampled from it, and how good that turned out."""

    x: Tensor  # (1, *S)
    k: int
    cond: Cond
    branches: Tensor  # (1, g, *S): all images of a branch step, or one of a trajectory
    advantages: Tensor  # (1, g)
    share: float  # its weight in the loss
    old: dict[int, Gaussian] | None = None  # {n: p^(n)} of the policy that drew, where it is another
    reference: dict[int, Gaussian] | None = None  # {n: p^(n)} without the adapter, where it is needed


def observed_at(rollout: Rollout, place: int, *, advantages: Tensor, share: float) -> list[Observed]:
    """What was observed at one branch step of a rollout, by its place in K: once for branches, G times otherwise.

    advantages: (G,); share: the weight of the branch step in the loss.
    """
    starts, branches = rollout.starts[place], rollout.branches[place]
    N = len(starts)
    branches = branches.view(N, -1, *branches.shape[1:])
    advantages = advantages.to(branches.device).view(N, -1)
    parts = (each.split(1) for each in (starts, branches, advantages))
    return [
        Observed(x, rollout.branch_steps[place], rollout.cond, y, A, share / N) for x, y, A in zip(*parts, strict=True)
    ]


class PolicyGradient:
    """The gradient of the objective, which it adds to that of the state's parameters.

    batches: how many observed steps are evaluated together. sigmas: the grid, T + 1 floats. steering: the run's orders.
    """

    def __init__(
        self,
        policy: Policy,
        state: TrainState,
        *,
        config: TrainConfig,
        sigmas: Sequence[float],
        batches: Batches,
        steering: Steering | None = None,
    ) -> None:
        self._policy, self._state, self._config, self._sigmas = policy, state, config, sigmas
        self._batches, self._steering = batches, steering or Steering()

    def add(self, observed: Sequence[Observed]) -> tuple[Tensor, dict[int, Tensor]]:
        """Add the gradient of some observed steps, N >= 1.

        Returns their loss () and, for each chain n, what it does (N, 5), on the device; see chain_loss().
        """
        chains = self._config.pave.weights()
        rows = self._batches.map(self._add_alone, observed)  # (N, 1 + 5 C), C chains
        return rows[:, 0].sum(), dict(zip(chains, rows[:, 1:].chunk(len(chains), 1), strict=True))

    @torch.no_grad()
    def remember(self, observed: Sequence[Observed]) -> None:
        """Remember the policy as it is as the one that drew the images of some observed steps, N >= 1."""
        self._batches.map(self._remember_together, observed)

    def _remember_together(self, observed: Sequence[Observed]) -> Tensor:
        together = [_Together(group) for group in _by_step(observed)]
        for each, p in zip(together, self._transitions(together), strict=True):
            each.keep_old(p)
        return torch.empty(len(observed), 0)

    def _add_alone(self, observed: Sequence[Observed]) -> Tensor:
        """_add_together() while nothing else is done with the network, whose graph is alive; but before it."""
        self._steering.check()
        with self._steering.busy():
            return self._add_together(observed)

    def _add_together(self, observed: Sequence[Observed]) -> Tensor:
        """Add the gradient of some observed steps, evaluated together: all of it, or an error and none.

        Returns rows (n, 1 + 5 C) on the device, in any order: the loss of each, and what its chains do.
        The loss is scaled where fp16 could not hold its gradient otherwise; the scale is halved, for good, when a
        gradient is not finite with it.
        """
        together = [_Together(group) for group in _by_step(observed)]
        if self._config.pave.kl_weight > 0 and any(each.reference is None for each in together):
            with torch.no_grad(), self._policy.reference():
                for each, transitions in zip(together, self._transitions(together), strict=True):
                    each.keep_reference(transitions)
        parameters = list(self._state.parameters.values())
        while True:
            scale = max(self._policy.loss_scale / 2**self._state.scale_halvings, 1.0)
            with torch.enable_grad():
                transitions = self._transitions(together)
                found = [each.losses(p, self._config.pave) for each, p in zip(together, transitions, strict=True)]
                losses, metrics = map(torch.cat, zip(*found, strict=True))
                loss = losses.sum()
                gradients = torch.autograd.grad(scale * loss, parameters, allow_unused=True)
            if scale == 1 or not _overflows(gradients, loss):
                break
            self._state.scale_halvings += 1
        rows = torch.cat([losses.detach().unsqueeze(1), metrics], 1)
        if self._config.pave.updates_per_rollout > 1 and any(each.old is None for each in together):
            for each, p in zip(together, transitions, strict=True):
                each.keep_old(p)
        taught = [(p, gradient) for p, gradient in zip(parameters, gradients, strict=True) if gradient is not None]
        for p, _ in taught:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        for p, gradient in taught:  # last, and in place: if memory ran out after it, some would count twice
            assert p.grad is not None
            p.grad.add_(gradient, alpha=1 / scale)
        return rows

    def _transitions(self, together: Sequence[_Together]) -> list[dict[int, Gaussian]]:
        """{n: p^(n)} of observed steps."""
        rollout, pave = self._config.rollout, self._config.pave
        return paved_transitions(
            self._policy.velocity,
            [each.steps for each in together],
            sigmas=self._sigmas,
            eta=rollout.eta,
            segments=pave.segments,
            kernel=rollout.kernel,
            variance=pave.variance,
        )


class _Together:
    """Observed steps at one k, as one."""

    def __init__(self, observed: Sequence[Observed]) -> None:
        self._observed = observed
        self._branches = torch.cat([each.branches for each in observed])
        self._advantages = torch.cat([each.advantages for each in observed])
        shares = torch.tensor([each.share for each in observed])
        self._shares = shares.to(self._branches.device, non_blocking=True)
        self.steps = CoarseStep(
            torch.cat([each.x for each in observed]), observed[0].k, [each.cond for each in observed]
        )
        self.old = _joined([each.old for each in observed])
        self.reference = _joined([each.reference for each in observed])

    def keep_old(self, transitions: dict[int, Gaussian]) -> None:
        """Remember the policy that drew, here and for each observed step."""
        self.old = {n: p.detach() for n, p in transitions.items()}
        for each, of_step in zip(self._observed, _split(self.old), strict=True):
            each.old = of_step

    def keep_reference(self, transitions: dict[int, Gaussian]) -> None:
        """Remember the reference, likewise."""
        self.reference = transitions
        for each, of_step in zip(self._observed, _split(transitions), strict=True):
            each.reference = of_step

    def losses(self, transitions: dict[int, Gaussian], config: PaveConfig) -> tuple[Tensor, Tensor]:
        """The weighted loss of each, (n,), and what its C chains do: (n, 5 C)."""
        losses, metrics = decomposition_loss(
            transitions, self._branches, self._advantages, config=config, old=self.old, reference=self.reference
        )
        return self._shares * losses, metrics


def _by_step(observed: Sequence[Observed]) -> list[list[Observed]]:
    """Observed steps by their k."""
    groups: dict[int, list[Observed]] = defaultdict(list)
    for each in observed:
        groups[each.k].append(each)
    return list(groups.values())


def _split(transitions: dict[int, Gaussian]) -> list[dict[int, Gaussian]]:
    """{n: p^(n)} of each of the observed steps that are one in `transitions`."""
    count = len(transitions[1].mean)
    return [{n: Gaussian(p.mean[i : i + 1], p.std) for n, p in transitions.items()} for i in range(count)]


def _joined(transitions: Sequence[dict[int, Gaussian] | None]) -> dict[int, Gaussian] | None:
    """{n: p^(n)} of several observed steps as one; None where one of them has none yet."""
    known = [p for p in transitions if p is not None]
    if len(known) < len(transitions):
        return None
    return {n: Gaussian(torch.cat([p[n].mean for p in known]), p_n.std) for n, p_n in known[0].items()}


def _overflows(gradients: Sequence[Tensor | None], loss: Tensor) -> bool:
    """Whether a gradient is not finite although the loss is; waits for the device."""
    return bool(loss.isfinite()) and any(g is not None and not bool(g.isfinite().all()) for g in gradients)
