"""Recompute the cases of a reference file with the core and compare gradients and advantages.

    python tools/check_reference.py paved_reference.json

A case holds one stochastic step of a toy velocity v(x, sigma) = tanh(x @ W + sigma b), its branches y and their
rewards, and the gradient of the loss in W and b that the authors' released code gives. Prints a line per case; exit
code 1 above 1e-4. If this Python has no torch, the quickstart's environment is used (and made, on first use).
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TOLERANCE = 1e-4
SETTINGS = ("T", "k", "segments", "G", "eta", "shift")


def relative_errors(case: dict[str, Any]) -> dict[str, float]:
    """{"grad_W", "grad_b", "advantages"}: |ours - theirs| / |theirs| of one case, by Frobenius norms."""
    import torch

    from pave_core.config.objective import PaveConfig
    from pave_core.flow.paving import paved_transitions
    from pave_core.flow.schedule import shifted_sigmas
    from pave_core.objective.advantage import compute_advantages
    from pave_core.objective.loss import decomposition_loss

    def tensor(key: str) -> torch.Tensor:
        return torch.tensor(case[key], dtype=torch.float64)

    W, b = tensor("W").requires_grad_(), tensor("b").requires_grad_()
    sigmas = shifted_sigmas(case["T"], case["shift"])
    for given, computed in ((case["sigma"], sigmas[case["k"]]), (case["sigma_next"], sigmas[case["k"] + 1])):
        if abs(given - computed) > 1e-6:
            place = f"T {case['T']}, k {case['k']}, shift {case['shift']}"
            raise SystemExit(f"sigma {given} of the case is not the schedule's {computed} ({place})")
    x, y, rewards = tensor("x"), tensor("y"), tensor("rewards")

    def velocity(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ W + sigma.view(-1, *(1,) * (x.ndim - 1)) * b)

    advantages = compute_advantages(rewards.unsqueeze(0), PaveConfig().advantage_clip)[0]
    transitions = paved_transitions(velocity, x, k=case["k"], sigmas=sigmas, eta=case["eta"], segments=case["segments"])
    decomposition_loss(transitions, y, advantages).backward()
    found = {"grad_W": W.grad, "grad_b": b.grad, "advantages": advantages}

    def error(name: str) -> float:
        theirs, ours = tensor(name), found[name]
        assert ours is not None
        return (torch.linalg.vector_norm(ours - theirs) / torch.linalg.vector_norm(theirs).clamp_min(1e-30)).item()

    return {name: error(name) for name in found}


def main() -> int:
    if find_spec("torch") is None:
        from _host.environment import prepare, rerun

        return rerun(prepare().python)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="a JSON file with a list of cases")
    cases = json.loads(parser.parse_args().file.read_text("utf-8"))["cases"]
    from _host.package import load_core

    load_core()
    worst = 0.0
    for i, case in enumerate(cases):
        errors = relative_errors(case)
        worst = max(worst, *errors.values())
        shown = "  ".join(f"{name} {error:.2e}" for name, error in errors.items())
        print(f"case {i}: " + " ".join(f"{key} {case[key]}" for key in SETTINGS) + f": {shown}")
    verdict = "within" if worst <= TOLERANCE else "ABOVE"
    print(f"{len(cases)} cases, largest relative error {worst:.2e} ({verdict} {TOLERANCE:g})")
    return 0 if cases and worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
