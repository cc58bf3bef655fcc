"""The record of a step."""

import json

import torch

from _toy import ToyTraining
from pave_core.training.step import TrainingStep


def test_a_record_is_plain_json_without_the_preview():
    run = ToyTraining()
    metrics = next(run.stream())
    record = metrics.to_dict()
    assert json.loads(json.dumps(record)) == record
    assert "preview" not in record
    assert record["segments"]["2"] == {
        "log_prob": metrics.segments[2].log_prob,
        "std": metrics.segments[2].std,
        "push": metrics.segments[2].push,
        "kl": 0.0,
        "limited": 0.0,
    }
    assert record["rewards"]["brightness"] == [metrics.reward_mean, metrics.reward_std]


def test_the_preview_is_the_first_prompt_s_anchor_without_noise():
    run, again = ToyTraining(), ToyTraining()
    metrics = next(run.stream())
    step = TrainingStep(again.policy, again.decoder, conds=again.conds, config=again.config, state=again.state)
    torch.testing.assert_close(metrics.preview, again.decoder.decode(step.sample()[0].anchor_final)[0])
