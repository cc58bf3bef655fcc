"""Rollouts, against the plain ODE."""

import torch

from _toy import ToyTraining, toy_config
from pave_core.batches import Batches
from pave_core.flow.solvers import ode
from pave_core.rollout.branches import sample_rollout
from pave_core.seeds import seeded


def test_branches_leave_the_anchor_and_reach_the_end_by_the_ode():
    run = ToyTraining()
    config, cond = run.config.rollout, run.conds["a cat"]
    rollout = sample_rollout(run.policy, "a cat", cond=cond, config=config, generator=seeded(0, "test"))
    sigmas = rollout.sigmas
    noise = torch.randn(1, *run.policy.latent_shape, generator=seeded(0, "test"))

    def solved(x, sigmas, batch_size=1):
        return ode(run.policy, x, cond=cond, sigmas=sigmas, batches=Batches(batch_size))

    torch.testing.assert_close(rollout.anchor_final, solved(noise, sigmas))
    for i, k in enumerate(config.branch_steps):
        torch.testing.assert_close(rollout.starts[i], solved(noise, sigmas[: k + 1]))
        torch.testing.assert_close(rollout.finals[i], solved(rollout.branches[i], sigmas[k + 1 :], 3))
    assert rollout.branches.std(1).min() > 0


def test_batch_size_does_not_change_the_images():
    run = ToyTraining()
    rollouts = [
        sample_rollout(
            run.policy,
            "a cat",
            cond=run.conds["a cat"],
            config=toy_config(batch_size=batch_size).rollout,
            generator=seeded(0),
        )
        for batch_size in (1, 64)
    ]
    torch.testing.assert_close(rollouts[0].finals, rollouts[1].finals)
