"""Drift, against a plain computation."""

import pytest
import torch

from _toy import ToyTraining, toy_config
from pave_core.evaluation.drift import DriftProbe


def test_drift_is_zero_for_the_base_and_that_of_a_plain_computation_else():
    run = ToyTraining(toy_config(iterations=3))
    with run.policy.reference():
        probe = DriftProbe(run.policy, run.conds, run.config.rollout)
    assert probe.measure(run.policy) == 0
    for _ in run.stream():
        pass
    moved, base, sigmas = [], [], run.policy.sigmas(6)
    for cond in run.conds.values():
        x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * sigmas[0]
        for k in range(5):
            sigma = torch.tensor([sigmas[k]])
            with torch.no_grad():
                now = run.policy.velocity(x, sigma, [cond])
                with run.policy.reference():
                    before = run.policy.velocity(x, sigma, [cond])
            if k in (1, 3, 4):
                moved.append((now - before).square().mean())
                base.append(before.square().mean())
            x = x + (sigmas[k + 1] - sigmas[k]) * before
    assert probe.measure(run.policy) == pytest.approx((sum(moved) / sum(base)).item(), rel=1e-5)
    assert probe.measure(run.policy) > 0


def test_measuring_leaves_no_gradient():
    run = ToyTraining()
    with run.policy.reference():
        probe = DriftProbe(run.policy, run.conds, run.config.rollout)
    probe.measure(run.policy)
    assert all(p.grad is None for p in run.policy.parameters().values())
