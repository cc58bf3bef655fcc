"""Named settings."""

from dataclasses import replace

import pytest

from pave_core.config.memory import MemoryConfig
from pave_core.config.presets import (
    ABOUT,
    CUSTOM,
    MEMORY_PRESETS,
    PRESETS,
    RENAMED,
    MemoryPreset,
    changes,
    not_default,
    preset_config,
    with_values,
)
from pave_core.config.rollout import RolloutConfig
from pave_core.config.train import TrainConfig
from pave_core.errors import ConfigError

RELEASED = PRESETS["pave (released code)"]


def test_the_released_preset_is_the_released_run():
    paper = RELEASED
    rollout, pave, lora, optim = paper.rollout, paper.pave, paper.lora, paper.optim
    assert (rollout.steps, rollout.branch_steps, rollout.group_size, rollout.eta) == (16, (0, 2, 4, 6), 12, 0.8)
    assert (pave.segments, pave.advantage_clip, paper.run.iterations) == ((2, 3), 5.0, 300)
    assert (lora.rank, lora.alpha, lora.targets, lora.init) == (64, 128, "paper", "gaussian")
    assert (optim.learning_rate, optim.betas, optim.weight_decay, optim.max_grad_norm) == (1e-4, (0.9, 0.999), 1e-4, 1)


def test_the_defaults_are_the_released_run_s_on_the_layers_that_runs_had_before():
    assert replace(RELEASED, lora=replace(RELEASED.lora, targets="attention")) == TrainConfig()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("pave, half price", {"steps": 8, "branch_steps": "0, 1, 2, 3"}),
        ("grpo, no paving", {"segments": ""}),
        (
            # flow_grpo/config/grpo.py: pickscore_flux, and the defaults of base.py
            "flow-grpo",
            {
                **{"steps": 6, "group_size": 24, "eta": 0.9, "branch_steps": "0, 1, 2, 3, 4", "segments": ""},
                **{"exploration": "trajectories", "ratio": "clip", "updates_per_rollout": 2, "ema_decay": 0.987},
                "learning_rate": 3e-4,
            },
        ),
        (
            # DanceGRPO/scripts/finetune/finetune_flux_grpo.sh
            "dance-grpo",
            {
                **{"eta": 0.3, "kernel": "dance", "exploration": "trajectories, one noise", "segments": ""},
                **{"branch_steps": ", ".join(map(str, range(15))), "ratio": "clip", "updates_per_rollout": 3},
            },
        ),
        (
            # MixGRPO/scripts/finetune/finetune_flux_grpo_MixGRPO.sh
            "mix-grpo",
            {
                **{"steps": 25, "eta": 0.7, "branch_steps": "0, 1, 2, 3", "window_every": 25, "segments": ""},
                **{"exploration": "trajectories, one noise", "ratio": "clip", "updates_per_rollout": 4},
            },
        ),
        # GRPO-Series/scripts/train_adagrpo.sh
        ("ada-grpo", {"eta": 0.7, "candidates": 10, "global_advantage": True, "segments": ""}),
    ],
)
def test_a_preset_is_the_released_run_with_what_is_published(name, published):
    assert {key: value for key, (value, _) in changes(PRESETS[name], RELEASED).items()} == published


def test_every_preset_is_described():
    assert ABOUT.keys() == PRESETS.keys()
    assert CUSTOM not in PRESETS


def test_a_preset_is_found_by_its_name_and_by_an_older_one():
    assert preset_config("flow-grpo") is PRESETS["flow-grpo"]
    assert preset_config("paper") is RELEASED
    assert preset_config("custom") == TrainConfig()
    assert RENAMED.keys().isdisjoint(PRESETS)
    with pytest.raises(ConfigError, match="^preset: 'papr' is not known: choose one of custom, pave"):
        preset_config("papr")


def test_values_go_over_a_preset_and_leave_the_rest():
    config = with_values(PRESETS["dance-grpo"], {"steps": 20, "beta1": 0.8, "run_name": "no setting of these"})
    assert config.rollout == replace(PRESETS["dance-grpo"].rollout, steps=20)
    assert config.optim.betas == (0.8, 0.999)
    assert with_values(PRESETS["quick"], {}) == PRESETS["quick"]
    with pytest.raises(ConfigError, match="^branch_steps: '0, 1, x' is not a list"):
        with_values(RELEASED, {"branch_steps": "0, 1, x"})


def test_what_is_not_the_default_is_said_without_length_and_memory():
    assert not_default(TrainConfig()) == "none"
    config = with_values(
        TrainConfig(rollout=RolloutConfig(batch_size=9)), {"seed": 5, "eta": 0.5, "iterations": 3, "offload": 0.5}
    )
    assert not_default(with_values(config, {"segments": "", "global_advantage": True, "candidates": 4})) == (
        "eta 0.5; candidates 4; segments empty; global_advantage on"
    )


def test_a_smaller_card_never_needs_more():
    """Of cards by size: the weights on the card, the micro-batches and the rank rise; what costs time only falls."""
    cards = list(MEMORY_PRESETS.values())
    gigabytes = [float(name.removesuffix(" GB")) for name in MEMORY_PRESETS]
    assert gigabytes == sorted(gigabytes) == [8, 12, 16, 24]
    for smaller, larger in zip(cards, cards[1:], strict=False):
        for name in ("weights", "batch_size", "decode_batch", "rank"):
            assert getattr(smaller, name) <= getattr(larger, name)
        assert smaller.memory().offload >= larger.memory().offload
        assert smaller.recompute_chains >= larger.recompute_chains
    for size, preset in zip(gigabytes, cards, strict=True):
        assert preset.weights < size * 2 / 3, "there must be room for the activations"


def test_what_does_not_fit_is_offloaded_in_steps_of_the_widget():
    preset = MemoryPreset(6.0, "on", recompute_chains=True, batch_size=1, decode_batch=1, rank=16)
    assert preset.memory(6.0) == MemoryConfig("on", recompute_chains=True, decode_batch=1, offload=0.0)
    assert preset.memory(3.0).offload == 0.0
    assert preset.memory(12.0).offload == 0.5
    assert preset.memory(20.0).offload == 0.7
    for weights in (6.1, 7.3, 11.9, 20.4, 100.0):
        offload = preset.memory(weights).offload
        assert (1 - offload) * weights <= preset.weights < (1 - offload + 0.05) * weights
        assert offload * 20 == round(offload * 20)


def test_the_weights_are_cast_to_8_bits_where_16_are_too_many():
    preset = MEMORY_PRESETS["24 GB"]
    assert preset.weight_dtype(12.3) == "default"
    assert preset.weight_dtype(23.8) == "fp8_e4m3fn"
