"""Named settings."""

from dataclasses import replace

from pave_core.config.memory import MemoryConfig
from pave_core.config.presets import MEMORY_PRESETS, PRESETS, MemoryPreset
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
