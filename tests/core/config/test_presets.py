"""Named settings."""

from dataclasses import replace

from pave_core.config.presets import PRESETS
from pave_core.config.train import TrainConfig


def test_the_paper_preset_is_the_released_run():
    paper = PRESETS["paper"]
    rollout, pave, lora, optim = paper.rollout, paper.pave, paper.lora, paper.optim
    assert (rollout.steps, rollout.branch_steps, rollout.group_size, rollout.eta) == (16, (0, 2, 4, 6), 12, 0.8)
    assert (pave.segments, pave.advantage_clip, paper.run.iterations) == ((2, 3), 5.0, 300)
    assert (lora.rank, lora.alpha, lora.targets, lora.init) == (64, 128, "paper", "gaussian")
    assert (optim.learning_rate, optim.betas, optim.weight_decay, optim.max_grad_norm) == (1e-4, (0.9, 0.999), 1e-4, 1)


def test_the_defaults_are_the_paper_s_on_the_layers_that_runs_had_before():
    paper = PRESETS["paper"]
    assert replace(paper, lora=replace(paper.lora, targets="attention")) == TrainConfig()
