"""A run that was cancelled and goes on from its folder, against one that was not: all that it leaves is the same."""

import json
from dataclasses import replace

import pytest
import torch

from _toy import drive, lines, same, toy_config
from pave_core.runs.checkpoint import load_checkpoint


def averaged():
    """AdaGRPO with a running mean of the weights: all that a run keeps."""
    config = toy_config(iterations=5, candidates=2)
    pave = replace(config.pave, global_advantage=True, updates_per_rollout=2, kl_weight=0.1)
    return replace(config, pave=pave, optim=replace(config.optim, ema_decay=0.5))


@pytest.mark.parametrize(
    ("config", "cut"),
    [
        (toy_config(iterations=5), 1),
        (toy_config(iterations=5), 3),
        (toy_config(iterations=5, optimizer_step="per_step"), 1),
        (toy_config(iterations=5, optimizer_step="per_step"), 3),
        (averaged(), 3),
    ],
    ids=["accumulated, 1", "accumulated, 3", "per_step, 1", "per_step, 3", "all that is kept, 3"],
)
def test_a_cancelled_run_resumes_bit_for_bit(begin, places, config, cut):
    whole = begin(config, name="whole")
    drive(whole)
    outcome = whole.finish()
    first = begin(config, name="cut")
    drive(first, until=cut)
    first.stop("cancelled")
    second = begin(config, resume=first.folder.name)
    drive(second)
    resumed = second.finish()
    assert lines(second.folder.metrics) == lines(whole.folder.metrics)
    assert same(resumed.lora, outcome.lora)
    states = [load_checkpoint(run.folder.checkpoint) for run in (second, whole)]
    assert same(states[0].adapter, states[1].adapter)
    assert same(states[0].optimizer, states[1].optimizer)
    assert same(states[0].average, states[1].average)
    assert states[0].running == states[1].running
    assert (states[0].step, states[0].counters) == (states[1].step, states[1].counters)
    assert states[0].recipe == states[1].recipe
    assert torch.equal(resumed.grid, outcome.grid)
    rewards = [json.loads((run.folder.path / "summary.json").read_text())["reward_after"] for run in (second, whole)]
    assert rewards[0] == rewards[1]
