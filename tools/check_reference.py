"""Recompute the cases of a reference file with the core and compare.

    python tools/check_reference.py tests/data/paved_reference.json
    python tools/check_reference.py tests/data/algorithm_reference.json

A file has one or more of these lists.

cases       one stochastic step of a toy velocity v(x, sigma) = tanh(x @ W + sigma b), its branches y and their rewards,
            and the gradient of the loss in W and b that the authors' released code gives (1e-4)
kernels     x and v of one step, its mean, std and the log-probabilities of y, by public code for Flow-GRPO (Flow-SDE),
            DanceGRPO (Dance-SDE) and Flow-CPS (CPS) (1e-5)
ada         batches of the scores of candidates, the running mean and variance, the candidate chosen and the advantages
            of its images, by AdaGRPO's released code (1e-5)

Prints a line per case, with |ours - theirs| / |theirs| of each quantity; exit code 1 if one is above the tolerance. If
this Python has no torch, the quickstart's environment is used (and made, on first use).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from math import inf, log, pi, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from pave_core.config.rollout import Kernel

Case = Mapping[str, Any]
Errors = dict[str, float]
PAVED = ("T", "k", "segments", "G", "eta", "shift")
KERNEL = ("kernel", "T", "k", "eta", "shift")
THEIR_KERNELS: Mapping[str, Kernel] = {"Flow-SDE": "mar", "Dance-SDE": "dance", "CPS": "cps"}


def tensor(values: Any) -> Tensor:
    import torch

    return torch.tensor(values, dtype=torch.float64)


def error(ours: Any, theirs: Any) -> float:
    """|ours - theirs| / |theirs| by Frobenius norms; inf for other shapes, for none and for what is not finite."""
    import torch

    a, b = torch.as_tensor(ours, dtype=torch.float64), tensor(theirs)
    if a.shape != b.shape or not b.numel() or not (a.isfinite().all() and b.isfinite().all()):
        return inf
    return ((a - b).norm() / b.norm().clamp_min(1e-30)).item()


def shown(case: Case, names: tuple[str, ...]) -> str:
    return " ".join(f"{name} {case[name]}" for name in names)


def sigmas_of(case: Case) -> tuple[float, ...]:
    """The grid of a case. SystemExit unless the case's own sigmas are in it."""
    from pave_core.flow.schedule import shifted_sigmas

    sigmas = shifted_sigmas(case["T"], case["shift"])
    for given, computed in ((case["sigma"], sigmas[case["k"]]), (case["sigma_next"], sigmas[case["k"] + 1])):
        if not abs(given - computed) <= 1e-6:
            place = f"T {case['T']}, k {case['k']}, shift {case['shift']}"
            raise SystemExit(f"sigma {given} of the case is not the schedule's {computed} ({place})")
    return sigmas


def paved(case: Case) -> Iterator[tuple[str, Errors]]:
    """The gradients and the advantages of one branch step."""
    import torch

    from pave_core.config.objective import PaveConfig
    from pave_core.flow.paving import CoarseStep, paved_transitions
    from pave_core.objective.advantage import compute_advantages
    from pave_core.objective.loss import decomposition_loss

    W, b = tensor(case["W"]).requires_grad_(), tensor(case["b"]).requires_grad_()
    x, y, rewards = (tensor(case[name]) for name in ("x", "y", "rewards"))

    def velocity(x: Tensor, sigma: Tensor, conds: Any) -> Tensor:
        return torch.tanh(x @ W + sigma.view(-1, *(1,) * (x.ndim - 1)) * b)

    config = PaveConfig(segments=tuple(case["segments"]))
    advantages = compute_advantages(rewards.unsqueeze(0), config.advantage_clip)[0]
    step = CoarseStep(x, case["k"], conds=[None])
    (transitions,) = paved_transitions(
        velocity, [step], sigmas=sigmas_of(case), eta=case["eta"], segments=config.segments
    )
    decomposition_loss(transitions, y.unsqueeze(0), advantages.unsqueeze(0), config=config)[0].backward()
    found = {"grad_W": W.grad, "grad_b": b.grad, "advantages": advantages}
    yield shown(case, PAVED), {name: error(ours, case[name]) for name, ours in found.items()}


def kernel(case: Case) -> Iterator[tuple[str, Errors]]:
    """The moments and log-probabilities of one step.

    Their std_dev_t is without sqrt(-dt), except CPS's. Their log-probabilities are with the normaliser, except CPS's,
    which are -(y - mean)^2.
    """
    from pave_core.flow.kernels import transition

    name = THEIR_KERNELS[case["kernel"]]
    sigma, sigma_next = case["sigma"], case["sigma_next"]
    p = transition(
        tensor([case["x"]]),
        tensor([case["v"]]),
        sigma=sigma,
        sigma_next=sigma_next,
        eta=case["eta"],
        sigma_ceiling=sigmas_of(case)[1],
        kernel=name,
    )
    log_prob = p.log_prob(tensor(case["y"]))
    if name == "cps":
        std, log_prob = p.std, log_prob * 2 * p.std**2
    else:
        std, log_prob = p.std / sqrt(sigma - sigma_next), log_prob - log(p.std * sqrt(2 * pi))
    found = {"mean": p.mean[0], "std_dev_t": std, "log_prob": log_prob}
    yield shown(case, KERNEL), {name: error(ours, case[name]) for name, ours in found.items()}


def ada(case: Case) -> Iterator[tuple[str, Errors]]:
    """The steps of one training: running statistics, the choice and the advantages."""
    from pave_core.objective.advantage import compute_advantages, global_advantages
    from pave_core.rollout.curriculum import RunningStats, nearest

    stats = None
    for i, step in enumerate(case["steps"]):
        # Rewards are fp32, theirs as ours: where they hardly differ, the rounding of their mean shows.
        scores, rewards = tensor(step["anchor_scores"]).float(), tensor(step["rewards"]).float()
        stats = RunningStats.of(scores) if stats is None else stats.updated(scores, decay=case["alpha"])
        local = compute_advantages(rewards, case["clip"])
        global_ = global_advantages(rewards, stats, case["clip"])
        found = {"ema_mean": stats.mean, "ema_var": stats.var, "local": local, "global_": global_}
        errors = {name: error(ours, step[name]) for name, ours in found.items()}
        errors["advantages"] = error(local + global_, step["advantages"])
        errors["selected"] = 0.0 if nearest(scores, stats.mean, 1) == [step["selected"]] else inf
        yield f"step {i}", errors


KINDS: Mapping[str, tuple[Callable[[Case], Iterator[tuple[str, Errors]]], float]] = {
    "cases": (paved, 1e-4),
    "kernels": (kernel, 1e-5),
    "ada": (ada, 1e-5),
}
"""{key of the file: (what compares one of its cases, the tolerance)}."""


def main() -> int:
    if find_spec("torch") is None:
        from _host.environment import prepare, rerun

        return rerun(prepare().python)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="a JSON file with at least one of the lists " + ", ".join(KINDS))
    file = json.loads(parser.parse_args().file.read_text("utf-8"))
    from _host.package import load_core

    load_core()
    passed = [compare_all(key, file[key]) for key in KINDS if key in file]
    if not passed:
        print(f"none of the lists {', '.join(KINDS)} is in the file")
    return 0 if passed and all(passed) else 1


def compare_all(key: str, cases: Sequence[Case]) -> bool:
    """Whether there are cases and all are within the tolerance; prints a line per case."""
    compare, tolerance = KINDS[key]
    found = [list(compare(case)) for case in cases]
    worst = 0.0 if found and all(found) else inf
    for i, of_case in enumerate(found):
        for name, errors in of_case:
            worst = max(worst, *errors.values())
            figures = "  ".join(f"{quantity} {value:.2e}" for quantity, value in errors.items())
            print(f"{key.removesuffix('s')} {i}: {name}: {figures}")
    verdict = "within" if worst <= tolerance else "ABOVE"
    print(f"{len(cases)} {key}, largest relative error {worst:.2e} ({verdict} {tolerance:g})")
    return worst <= tolerance


if __name__ == "__main__":
    sys.exit(main())
