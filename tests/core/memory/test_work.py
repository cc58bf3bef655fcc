"""What a training step consists of, against a toy training that counts what it does."""

from dataclasses import replace

import pytest
import torch

from _toy import ToyTraining, toy_config
from pave_core.config.objective import PaveConfig
from pave_core.memory.work import Work
from pave_core.training.step import TrainingStep

ROLLOUTS = {
    "branches": {},
    "branches, not from the first step": {"branch_steps": (1, 3)},
    "trajectories": {"exploration": "trajectories"},
    "trajectories, one noise": {"exploration": "trajectories, one noise"},
    "trajectories, one noise, later": {"exploration": "trajectories, one noise", "branch_steps": (2, 3)},
    "trajectories, one noise and step": {"exploration": "trajectories, one noise", "branch_steps": (2,)},
    "coarser cheap tails": {"tail_steps": 3, "coarser_tails": (2,)},
    "cheap tails": {"tail_steps": 3, "tail_solver": "multistep"},
    "very cheap tails": {"tail_steps": 1},
    "coarser tails": {"coarser_tails": (2, 3)},
    "coarser tails of trajectories": {"exploration": "trajectories", "coarser_tails": (2,)},
    "contrast": {"contrast": 2},
    "contrast on cheap tails": {"contrast": 2, "tail_steps": 3},
    "contrast of trajectories": {"contrast": 2, "tail_steps": 2, "exploration": "trajectories"},
    "candidates": {"candidates": 3},
}
OBJECTIVES = {
    "plain": PaveConfig(segments=()),
    "two updates": PaveConfig(segments=(2, 4), updates_per_rollout=2, ratio="clip"),
    "divergence": PaveConfig(segments=(3,), kl_weight=0.1),
}


def counted(config):
    """{what: how many} of one training step."""
    toy = ToyTraining(config)
    counts = dict.fromkeys(("sampled", "updated", "compared", "decoded", "widest", "calls"), 0)
    velocity, reference, decode = toy.policy.velocity, toy.policy.reference, toy.decoder.decode
    inside = []

    def counting_velocity(x, sigma, conds):
        if torch.is_grad_enabled():
            counts["updated"] += len(x)
            counts["widest"] = max(counts["widest"], len(x))
            counts["calls"] += 1
        else:
            counts["compared" if inside else "sampled"] += len(x)
        return velocity(x, sigma, conds)

    class Reference:
        def __enter__(self):
            inside.append(self)
            self.theirs = reference()
            self.theirs.__enter__()

        def __exit__(self, *error):
            inside.pop()
            self.theirs.__exit__(*error)

    def counting_decode(latents):
        counts["decoded"] += len(latents)
        return decode(latents)

    toy.policy.velocity, toy.policy.reference, toy.decoder.decode = counting_velocity, Reference, counting_decode
    (metrics, *_) = toy.stream()
    assert metrics.zero_spread_groups == 0, "groups are left out of the update: this test shows nothing"
    return counts


@pytest.mark.parametrize("name", [*ROLLOUTS, *OBJECTIVES])
def test_a_training_step_does_what_was_counted(name):
    config = toy_config(iterations=1, **ROLLOUTS.get(name, {}))
    config = replace(config, pave=OBJECTIVES.get(name, config.pave))
    work, found = Work(config), counted(config)
    assert found["sampled"] == work.sampled
    assert found["decoded"] == work.decoded
    assert found["updated"] == work.updated
    assert found["compared"] == work.compared
    assert found["calls"] == work.calls * config.pave.updates_per_rollout  # of all states together
    assert found["widest"] == max(work.states, work.states * work.widest)


@pytest.mark.parametrize("name", ROLLOUTS)
def test_latents_are_those_that_rollouts_hold(name):
    """Beside them there are the noise of K x G branches, the start, and those of trajectories."""
    config = toy_config(iterations=1, **ROLLOUTS[name])
    toy = ToyTraining(config)
    step = TrainingStep(toy.policy, toy.decoder, conds=toy.conds, config=config, state=toy.state)
    step.prompts = step.prompts or list(toy.conds)[:2]
    held, own = 0, config.rollout.exploration == "trajectories"
    for rollout in step.sample():
        tensors = (rollout.starts, rollout.branches, rollout.finals, rollout.anchor_final)
        held += sum(tensor.numel() for tensor in tensors) // rollout.anchor_final.numel()
        held += len(rollout.branch_steps) * config.rollout.group_size + 1 + own * config.rollout.group_size
    assert Work(config).latents == held


def test_the_states_that_an_optimizer_step_takes():
    assert Work(toy_config()).together == 2 * 2
    assert Work(toy_config(optimizer_step="per_step")).together == 1
    trajectories = toy_config(optimizer_step="per_step", exploration="trajectories")
    assert (Work(trajectories).states, Work(trajectories).together) == (2 * 2 * 4, 4)
