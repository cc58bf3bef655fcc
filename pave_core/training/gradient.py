"""The gradient of what was sampled: paved transitions of many observed steps in lock-step -> loss -> gradient.

Memory decides how many steps are evaluated together, not what is learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batches import Batches
from ..config.train import TrainConfig
from ..flow.paving import CoarseStep, paved_transitions
from ..objective.loss import decomposition_loss, segment_metrics
from ..types import Gaussian, Policy, Rollout
from .state import TrainState


@dataclass(eq=False)
class Observed:
    """A state x_k, what was sampled from it, and how good that turned out."""

    step: CoarseStep  # x (1, *S)
    branches: Tensor  # (g, *S): all images of a branch step, or one of a trajectory
    advantages: Tensor  # (g,)
    share: float  # its weight in the loss
    old: dict[int, Gaussian] | None = None  # {n: p^(n)} of the first update, where there are more
    reference: dict[int, Gaussian] | None = None  # {n: p^(n)} without the adapter, where it is needed


def observed_at(rollout: Rollout, place: int, *, advantages: Tensor, share: float) -> list[Observed]:
    """What was observed at one branch step of a rollout, by its place in K: once for branches, G times otherwise.

    advantages: (G,); share: the weight of the branch step in the loss.
    """
    starts, k = rollout.starts[place].split(1), rollout.branch_steps[place]
    parts = (rollout.branches[place].chunk(len(starts)), advantages.to(rollout.branches.device).chunk(len(starts)))
    return [
        Observed(CoarseStep(x, k, rollout.cond), branches, of_branches, share / len(starts))
        for x, branches, of_branches in zip(starts, *parts, strict=True)
    ]


class PolicyGradient:
    """The gradient of the objective, which it adds to that of the state's parameters.

    batches: how many observed steps are evaluated together. sigmas: the grid, T + 1 floats.
    """

    def __init__(
        self, policy: Policy, state: TrainState, *, config: TrainConfig, sigmas: Sequence[float], batches: Batches
    ) -> None:
        self._policy, self._state, self._config, self._sigmas = policy, state, config, sigmas
        self._batches = batches

    def add(self, observed: Sequence[Observed]) -> tuple[Tensor, dict[int, Tensor]]:
        """Add the gradient of some observed steps, N >= 1.

        Returns their loss () and, for each chain n, their segment_metrics (N, 5), on the device.
        """
        chains = self._config.pave.weights()
        rows = self._batches.map(self._add_together, observed)  # (N, 1 + 5 C), C chains
        return rows[:, 0].sum(), dict(zip(chains, rows[:, 1:].chunk(len(chains), 1), strict=True))

    def _add_together(self, observed: Sequence[Observed]) -> Tensor:
        """Add the gradient of some observed steps, evaluated together: all of it, or an error and none.

        Returns rows (n, 1 + 5 C) on the device: the loss of each, and the segment_metrics of its C chains. The loss is
        scaled where fp16 could not hold its gradient otherwise; the scale is halved, for good, when a gradient is not
        finite with it.
        """
        parameters = list(self._state.parameters.values())
        while True:
            scale = max(self._policy.loss_scale / 2**self._state.scale_halvings, 1.0)
            with torch.enable_grad():
                losses, transitions = self._losses_of(observed)
                loss = torch.stack(losses).sum()
                gradients = torch.autograd.grad(scale * loss, parameters, allow_unused=True)
            if scale == 1 or not _overflows(gradients, loss):
                break
            self._state.scale_halvings += 1
        for p, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                gradient = gradient / scale if scale > 1 else gradient
                p.grad = gradient if p.grad is None else p.grad + gradient
        rows = [
            torch.cat(
                [
                    loss.detach().view(1),
                    *(
                        segment_metrics(
                            p,
                            each.branches,
                            each.advantages,
                            config=self._config.pave,
                            old=each.old[n] if each.old else None,
                            reference=each.reference[n] if each.reference else None,
                        )
                        for n, p in of_step.items()
                    ),
                ]
            )
            for each, loss, of_step in zip(observed, losses, transitions, strict=True)
        ]
        if self._config.pave.updates_per_rollout > 1:
            for each, of_step in zip(observed, transitions, strict=True):
                each.old = each.old or {n: p.detach() for n, p in of_step.items()}
        return torch.stack(rows)

    def _losses_of(self, observed: Sequence[Observed]) -> tuple[list[Tensor], list[dict[int, Gaussian]]]:
        """The loss of each of some observed steps, and its transitions."""
        config = self._config.pave
        if config.kl_weight > 0 and observed[0].reference is None:
            with torch.no_grad(), self._policy.reference():
                for each, reference in zip(observed, self._transitions(observed), strict=True):
                    each.reference = reference
        transitions = self._transitions(observed)
        losses = [
            each.share
            * decomposition_loss(
                of_step, each.branches, each.advantages, config=config, old=each.old, reference=each.reference
            )
            for each, of_step in zip(observed, transitions, strict=True)
        ]
        return losses, transitions

    def _transitions(self, observed: Sequence[Observed]) -> list[dict[int, Gaussian]]:
        """{n: p^(n)} for each of some observed steps."""
        rollout, pave = self._config.rollout, self._config.pave
        return paved_transitions(
            self._policy.velocity,
            [each.step for each in observed],
            sigmas=self._sigmas,
            eta=rollout.eta,
            segments=pave.segments,
            kernel=rollout.kernel,
            variance=pave.variance,
        )


def _overflows(gradients: Sequence[Tensor | None], loss: Tensor) -> bool:
    """Whether a gradient is not finite although the loss is; waits for the device."""
    return bool(loss.isfinite()) and any(g is not None and not bool(g.isfinite().all()) for g in gradients)
