"""A run that goes on from a checkpoint file, against one that was not interrupted: bit for bit."""

from dataclasses import replace
from typing import get_args

import pytest

from _toy import ToyTraining, same, toy_config, weights, without_clock
from pave_core.config.optimizer import OptimizerName
from pave_core.runs.checkpoint import load_checkpoint, save_checkpoint


def assert_resumes(config, file, cut):
    """Train all steps; then `cut` steps, a checkpoint, and the rest in another run."""
    whole, first, second = ToyTraining(config), ToyTraining(config), ToyTraining(config)
    fresh = weights(whole.policy)
    records = without_clock(list(whole.stream()))
    assert not same(weights(whole.policy), fresh)
    for metrics in first.stream():
        if metrics.step == cut:
            save_checkpoint(file, first.state.capture({"recipe": 1}))
            break
    second.state.restore(load_checkpoint(file))
    assert without_clock(list(second.stream())) == records[cut:]
    found, expected = second.state.capture({}), whole.state.capture({})
    for name in ("adapter", "optimizer", "average"):
        assert same(getattr(found, name), getattr(expected, name))
    assert (found.step, found.counters, found.running) == (expected.step, expected.counters, expected.running)
    return found


def changed(config, **parts):
    """`config` with other settings: pave={...}, optim={...}."""
    return replace(config, **{name: replace(getattr(config, name), **values) for name, values in parts.items()})


@pytest.mark.parametrize("optimizer_step", ["accumulated", "per_step"])
def test_resume_is_the_uninterrupted_run_bit_for_bit(tmp_path, optimizer_step):
    assert_resumes(toy_config(iterations=5, optimizer_step=optimizer_step), tmp_path / "checkpoint.safetensors", 2)


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_every_optimizer_learns_and_resumes_bit_for_bit(tmp_path, optimizer):
    rate = 1.0 if optimizer == "SGD" else 1e-3
    optim = {"optimizer": optimizer, "schedule": "cosine", "decay_steps": 6, "learning_rate": rate}
    assert_resumes(changed(toy_config(iterations=6), optim=optim), tmp_path / "checkpoint.safetensors", 3)


@pytest.mark.parametrize(
    "rollout",
    [
        {"exploration": "trajectories"},
        {"exploration": "trajectories, one noise", "kernel": "cps"},
        {"kernel": "dance"},
        {"window_every": 2, "window_stride": 1},
        {"tail_solver": "multistep", "tail_steps": 3},
        {"coarser_tails": (2, 3)},
        {"contrast": 2, "tail_steps": 3},
        {"candidates": 3},
    ],
    ids=str,
)
def test_every_option_of_the_rollout_resumes_bit_for_bit(tmp_path, rollout):
    assert_resumes(toy_config(iterations=5, **rollout), tmp_path / "checkpoint.safetensors", 3)


@pytest.mark.parametrize(
    "pave",
    [
        {"variance": "matched"},
        {"variance": "span"},
        {"residual": "image", "updates_per_rollout": 2},
        {"updates_per_rollout": 2},
        {"updates_per_rollout": 3, "ratio": "clip"},
        {"updates_per_rollout": 2, "ratio": "divergence mask"},
        {"kl_weight": 1.0},
        {"step_weights": (1.0, 0.5)},
    ],
    ids=str,
)
def test_every_option_of_the_objective_resumes_bit_for_bit(tmp_path, pave):
    assert_resumes(changed(toy_config(iterations=4), pave=pave), tmp_path / "checkpoint.safetensors", 2)


@pytest.mark.parametrize("optimizer_step", ["accumulated", "per_step"])
def test_the_running_mean_resumes_bit_for_bit(tmp_path, optimizer_step):
    config = changed(toy_config(iterations=5, optimizer_step=optimizer_step), optim={"ema_decay": 0.9})
    found = assert_resumes(config, tmp_path / "checkpoint.safetensors", 2)
    assert found.average


def test_all_of_ada_grpo_resumes_bit_for_bit(tmp_path):
    config = changed(
        toy_config(iterations=5, candidates=3, exploration="trajectories", window_every=2),
        pave={"global_advantage": True, "kl_weight": 0.1, "updates_per_rollout": 2, "ratio": "clip"},
        optim={"ema_decay": 0.5},
    )
    found = assert_resumes(config, tmp_path / "checkpoint.safetensors", 3)
    assert found.running is not None


def test_what_a_checkpoint_of_an_earlier_version_lacks_is_not_there(tmp_path, root):
    """That of 0.3.0 has neither a running mean nor statistics of candidates."""
    saved = load_checkpoint(root / "tests/data/v0_3_0/v030_train_00001/checkpoint.safetensors")
    assert (saved.average, saved.running) == ({}, None)
    assert saved.weights is saved.adapter
