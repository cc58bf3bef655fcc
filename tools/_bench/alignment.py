"""How alike are the gradients of the plain step and of its finer chains? What they share, paving does not add.

cosine of dL_1/dw and dL_n/dw, w the adapter, for the branches of one step and prompt; the interval is over prompts
halves: the same of dL_1/dw between the means over two halves of the prompts, which says how much of it is chance
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from _cuda.host import pack_module

from .experiments import REGIMES, RELEASED_STEPS
from .ranks import advantages_of_rollout
from .settings import replaced
from .statistics import interval
from .subject import Subject, encoded, some_captions

paving = pack_module("pave_core.flow.paving")
mean_gradient = pack_module("pave_core.objective.loss").mean_gradient

STEPS = (REGIMES["T3 K0"], REGIMES["T4 K01"], REGIMES["T8 K024"], RELEASED_STEPS)


@dataclass(frozen=True)
class Alignment:
    """Of chain n at step k of T. low, high: the 95 % interval of the mean cosine."""

    T: int
    k: int
    n: int
    cosine: float
    low: float
    high: float
    halves: float
    prompts: int

    def line(self) -> str:
        """As a line of a table."""
        return (
            f"T {self.T:>2} k {self.k} n {self.n}: cosine {self.cosine:.3f} [{self.low:.3f}, {self.high:.3f}], "
            f"between halves of {self.prompts} prompts {self.halves:.3f}"
        )


def measured_alignments(subject: Subject, *, prompts: int) -> Iterator[Alignment]:
    """Those of the base model, for each of STEPS, by one rollout of each of so many prompts."""
    for settings in STEPS:
        config = replaced(subject.config, settings)
        T, K, segments = config.rollout.steps, config.rollout.branch_steps, config.pave.segments
        with torch.inference_mode(), subject.policy(config) as policy:
            policy.sigmas(T)
            found: dict[tuple[int, int], list[Tensor]] = {(k, n): [] for k in K for n in (1, *segments)}
            for prompt, cond in encoded(policy, some_captions(prompts)).items():
                rollout, advantages = advantages_of_rollout(subject, policy, config, prompt, cond)
                for place, k in enumerate(K):
                    gradients = _gradients(policy, config, rollout, place, advantages)
                    for n, gradient in gradients.items():
                        found[k, n].append(gradient)
        for (k, n), gradients in found.items():
            if n > 1:
                plain, of_chain = torch.stack(found[k, 1]), torch.stack(gradients)
                of_all = interval(cosine_similarity(plain, of_chain, dim=1).tolist())
                first, second = (half.mean(0) for half in plain.chunk(2))
                halves = cosine_similarity(first, second, dim=0).item()
                yield Alignment(T, k, n, of_all.mean, of_all.low, of_all.high, halves, of_all.n)


def _gradients(policy: Any, config: Any, rollout: Any, place: int, advantages: Tensor) -> dict[int, Tensor]:
    """{n: dL_n/dw, flat} of the branches at one place in K; advantages (K, G)."""
    with torch.inference_mode(False), torch.enable_grad():
        step = paving.CoarseStep(rollout.starts[place].clone(), rollout.branch_steps[place], [rollout.cond])
        (transitions,) = paving.paved_transitions(
            policy.velocity,
            [step],
            sigmas=rollout.sigmas,
            eta=config.rollout.eta,
            segments=config.pave.segments,
            kernel=config.rollout.kernel,
        )
        y, A = rollout.branches[place].clone()[None], advantages[place].clone()[None]
        weights = list(policy.parameters().values())
        found = {}
        for n, p in transitions.items():
            pulled = (p.mean * mean_gradient(p, y, A)).sum()
            gradients = torch.autograd.grad(pulled, weights, retain_graph=True, allow_unused=True)
            parts = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, gradients, strict=True)]
            found[n] = torch.cat([part.flatten() for part in parts])
        return found
