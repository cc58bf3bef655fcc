"""What a run needs, by numbers written out here."""

from dataclasses import replace

import pytest

from pave_core.config.adapter import LoraConfig
from pave_core.config.memory import MemoryConfig
from pave_core.config.objective import PaveConfig
from pave_core.config.optimizer import OptimConfig
from pave_core.config.rollout import RolloutConfig
from pave_core.config.train import RunConfig, TrainConfig
from pave_core.memory.advice import changes_that_fit
from pave_core.memory.calls import Seconds
from pave_core.memory.growth import Growth
from pave_core.memory.needs import Case, Evaluation, Measured, fits, needs_of, with_memory
from pave_core.memory.report import GB, Preflight

MB = 2**20
SHAPE = (16, 32, 48)
AREA = 32 * 48
MEASURED = Measured(
    evaluation=Evaluation(
        checkpointed=Growth(linear=100 * MB / AREA),
        plain=Growth(linear=2000 * MB / AREA),
        block=Growth(linear=80 * MB / AREA),
    ),
    weights=12_000 * MB,
    weights_in_8_bits=6_000 * MB,
    parameters=1 * MB,
    decoder=300 * MB,
    decoding=Growth(linear=1000 * MB / AREA),
    text_encoder=9_000 * MB,
    reward=1_500 * MB,
    forward_blocks=1.5,
    backward_blocks=2.0,
)
"""A model whose call keeps 2000 MB, or 100 MB with checkpointing, and whose block keeps 80 MB."""


def case(segments=(2, 3), rank=16, batch_size=4, optimizer="AdamW", prompts=1, step="per_step", ema=0.0, **memory):
    """A case whose update takes one state at a time, unless `step` is "accumulated"."""
    config = TrainConfig(
        rollout=RolloutConfig(steps=8, branch_steps=(0, 2, 4), group_size=6, batch_size=batch_size),
        pave=PaveConfig(segments=segments),
        lora=LoraConfig(rank=rank, alpha=2 * rank),
        optim=OptimConfig(optimizer=optimizer, step=step, ema_decay=ema),
        run=RunConfig(prompts_per_step=prompts),
        memory=MemoryConfig(**memory),
    )
    return Case(config, SHAPE)


def megabytes(needs):
    return {phase: {part: size / MB for part, size in parts.items()} for phase, parts in needs.phases.items()}


def test_the_parts_of_the_phases():
    found = megabytes(needs_of(MEASURED, case(checkpointing="off"), 1e12))
    latents = ((3 * 6 + 1) * 3 + 2) * 16 * AREA * 4 / MB
    adapter = 16 * 4 * (1 + 1 + 2)
    assert found["encode"] == {"weights": 12_000, "text encoder": 9000}
    assert found["rollout"] == pytest.approx(
        {"weights": 12_000, "adapter": adapter, "latents": latents, "working set": 1.5 * 80 * 4}
    )
    assert found["decode"] == pytest.approx(
        {"weights": 12_000, "VAE": 300, "adapter": adapter, "latents": latents, "working set": 4 * 1000}
    )
    assert found["reward"] == pytest.approx({"weights": 12_000, "reward": 1500, "adapter": adapter, "latents": latents})
    kept, working = 4 * 2000, (2 - 1) * 80 * 2  # v_k, one of two chains, two of three; two chains in one call
    assert found["update"] == pytest.approx(
        {
            "weights": 12_000,
            "adapter": adapter,
            "latents": latents,
            "kept for backward": kept,
            "working set": working,
        }
    )


@pytest.mark.parametrize(
    ("settings", "kept", "working"),
    [
        ({"checkpointing": "on"}, 4 * 100, 2 * 80 * 2),
        ({"checkpointing": "on", "recompute_chains": True}, 2 * 100, 2 * 80 * 2),
        ({"checkpointing": "off", "recompute_chains": True}, 2 * 2000, 1 * 80 * 2),
        ({"checkpointing": "on", "segments": ()}, 100, 2 * 80),
        ({"checkpointing": "on", "segments": (2, 3, 4)}, 7 * 100, 2 * 80 * 3),
    ],
)
def test_what_the_update_keeps(settings, kept, working):
    found = megabytes(needs_of(MEASURED, case(**settings), 1e12))["update"]
    assert (found["kept for backward"], found["working set"]) == pytest.approx((kept, working))


@pytest.mark.parametrize(("optimizer", "copies"), [("AdamW", 4), ("RMSprop", 3), ("SGD", 3)])
def test_the_adapter_has_its_gradient_and_the_optimizers_moments(optimizer, copies):
    found = megabytes(needs_of(MEASURED, case(rank=8, optimizer=optimizer), 1e12))
    assert found["update"]["adapter"] == 8 * 4 * copies


def test_the_adapter_has_its_running_mean():
    found = megabytes(needs_of(MEASURED, case(rank=8, ema=0.99), 1e12))
    assert found["update"]["adapter"] == 8 * 4 * 5


def test_the_update_takes_as_many_states_at_once_as_fit_beside_weights_and_vae():
    """A state keeps 4 x 100 MB and works with 2 x 80 x 2 MB; 12,000 + 300 MB and adapter and latents are there."""
    settings = case(checkpointing="on", prompts=4, step="accumulated")
    every = needs_of(MEASURED, settings, 1e12)
    assert (every.states, every.update_batch) == (12, 12)
    assert megabytes(every)["update"]["kept for backward"] == pytest.approx(12 * 400)
    assert megabytes(every)["update"]["working set"] == pytest.approx(12 * 320)
    beside = sum(megabytes(every)["update"][part] for part in ("weights", "adapter", "latents")) + 300
    for n in (1, 2, 5, 11):
        least = beside + n * 720 / 0.9
        assert needs_of(MEASURED, settings, (least + 1) * MB).update_batch == n
        assert needs_of(MEASURED, settings, (least - 1) * MB).update_batch == max(1, n - 1)
    tight = needs_of(MEASURED, settings, 3_000 * MB)
    assert tight.update_batch == 1
    assert tight.offloaded > 0


def test_states_at_once_take_no_room_from_weights_that_are_to_stay():
    for offload in (0.0, 0.25, 0.5):
        for budget in range(8_000, 40_000, 1_500):
            settings = case(checkpointing="on", prompts=4, step="accumulated", offload=offload)
            found, one = (
                needs_of(MEASURED, settings, budget * MB),
                needs_of(MEASURED, case(checkpointing="on", prompts=4, offload=offload), budget * MB),
            )
            assert found.offloaded == pytest.approx(one.offloaded)
            assert found.peak("update") <= max(budget * MB, one.peak("update"))


def test_auto_checkpoints_for_one_state_and_not_for_more():
    settings = case(checkpointing="auto", prompts=4, step="accumulated")
    one = needs_of(MEASURED, case(checkpointing="off", prompts=4), 1e12).peak("update")
    found = needs_of(MEASURED, settings, one)
    assert not found.checkpointing
    assert found.update_batch == 1
    assert needs_of(MEASURED, settings, one - MB).checkpointing
    assert needs_of(MEASURED, settings, one - MB).update_batch > 1


def test_latents_are_those_of_all_prompts_and_activations_of_one():
    one, three = (megabytes(needs_of(MEASURED, case(prompts=n), 1e12))["update"] for n in (1, 3))
    assert three["latents"] == pytest.approx(3 * one["latents"])
    assert three["kept for backward"] == one["kept for backward"]


def test_weights_that_do_not_fit_beside_the_rest_are_offloaded():
    settings = case(checkpointing="on")
    whole = needs_of(MEASURED, settings, 1e12)
    assert whole.offloaded == 0
    tight = needs_of(MEASURED, settings, whole.room + 3_000 * MB)
    assert tight.offloaded == pytest.approx(0.75)
    assert tight.peak("update") <= tight.budget
    assert not [phase for phase in tight.too_large if phase in ("rollout", "update")]
    assert not fits(tight, settings)
    half = needs_of(MEASURED, case(checkpointing="on", offload=0.5), 1e12)
    assert half.offloaded == pytest.approx(0.5)
    assert half.phases["update"]["weights"] == 6_000 * MB


def test_weights_make_room_for_text_encoder_vae_and_reward():
    found = needs_of(MEASURED, case(checkpointing="on", decode_batch=8), 14_000 * MB)
    assert found.offloaded == 0
    assert found.phases["encode"]["weights"] == pytest.approx((14_000 - 9_000) * MB)
    assert found.peak("decode") == pytest.approx(14_000 * MB)
    assert 0 < found.phases["decode"]["weights"] < 12_000 * MB
    assert found.phases["reward"]["weights"] == pytest.approx(12_000 * MB)
    assert not found.too_large


def test_auto_is_plain_as_long_as_all_weights_stay():
    auto = case(checkpointing="auto")
    plain = needs_of(MEASURED, case(checkpointing="off"), 1e12)
    assert not needs_of(MEASURED, auto, plain.peak("update")).checkpointing
    assert needs_of(MEASURED, auto, plain.peak("update") - MB).checkpointing
    assert not needs_of(MEASURED, with_memory(auto, checkpointing="off"), 1.0).checkpointing
    assert needs_of(MEASURED, with_memory(auto, checkpointing="on"), 1e12).checkpointing


def test_the_vae_decodes_in_tiles_what_does_not_fit():
    found = needs_of(MEASURED, case(decode_batch=1), 1_000 * MB)
    assert found.peak("decode") == pytest.approx(1_000 * MB)
    assert "decode" not in found.too_large


def test_the_seconds_of_a_step():
    timed = replace(MEASURED, seconds=Seconds(sampling=0.06, forward=0.1, backward=0.2, decode=0.05))
    found = needs_of(timed, case(checkpointing="off", prompts=2), 1e12).seconds
    # k = 0 .. 7: the anchor, and 6 branches more after each of steps 0, 2 and 4
    assert found["rollout"] == pytest.approx(2 * 0.06 * (8 * 1 + 6 * (7 + 5 + 3)))
    assert found["decode"] == pytest.approx(2 * 0.05 * 19)
    assert found["update"] == pytest.approx(2 * 3 * 4 * 0.3)
    # A call of n latents takes 0.1 n seconds for n = 1 and 0.06 n for n = 4: 0.0533 + 0.0467 n.
    launched = replace(timed, seconds=Seconds(sampling=0.06, forward=0.1, backward=0.2, decode=0.05, latents=4))
    together = needs_of(launched, case(checkpointing="off", prompts=2, step="accumulated"), 1e12)
    assert together.update_batch == 6
    a, b, n = 0.16 / 3, 0.14 / 3, 6 * 4 / 3  # three calls for the 24 velocities of 6 states
    assert together.seconds["update"] == pytest.approx(3 * (a + b * n) / 0.1 * 0.3)
    again = needs_of(timed, case(checkpointing="on", recompute_chains=True), 1e12).seconds
    assert again["update"] == pytest.approx(3 * 4 * (3 * 0.1 + 0.2))
    unknown = replace(timed, seconds=Seconds(0.06, 0.1, 0.2))
    assert needs_of(unknown, case(), 1e12).seconds.keys() == {"rollout", "update"}
    assert needs_of(MEASURED, case(), 1e12).seconds == {}


def advised(settings, budget):
    return changes_that_fit(MEASURED, settings, budget, pixels=(384, 256))


def test_a_run_that_fits_needs_no_advice():
    assert advised(case(), 1e12) == []


def test_the_cheapest_that_is_enough_is_advised():
    off = case(checkpointing="off")
    needed = needs_of(MEASURED, off, 1e12).peak("update")
    assert advised(off, needed) == []
    assert advised(off, needed - MB) == ["checkpointing on"]
    on = case(checkpointing="on", batch_size=64)
    peak = needs_of(MEASURED, on, 1e12)
    assert peak.peak("rollout") > peak.peak("update")
    assert advised(on, peak.peak("update")) == ["batch_size 1"]


def test_what_is_dear_is_changed_only_as_far_as_it_must():
    on = case(checkpointing="on", rank=256)
    room = needs_of(MEASURED, with_memory(on, recompute_chains=True), 1e12).room
    found = advised(on, room + 0.6 * MEASURED.weights_in_8_bits)
    assert found is not None
    assert "weights as fp8 (weight_dtype of the loader)" in found
    assert not any("pixels" in words for words in found)
    assert sum(words.startswith("offload") for words in found) <= 1


def test_with_its_advice_a_run_fits():
    settings = case(checkpointing="off", rank=64)
    for budget in (20_000, 12_000, 9_000, 5_000, 3_000, 2_200):
        found = advised(settings, budget * MB)
        assert found, budget
    assert advised(settings, 100 * MB) is None


def test_every_piece_of_advice_is_needed():
    """Without any one of them it does not fit: tried by a case that has the others already."""
    settings = case(checkpointing="off", rank=64)
    found = advised(settings, 6_500 * MB)
    assert found is not None
    assert len(found) >= 2
    assert found == list(dict.fromkeys(found))
    done = with_memory(settings, checkpointing="on") if "checkpointing on" in found else settings
    rest = advised(done, 6_500 * MB)
    assert rest == [words for words in found if words != "checkpointing on"]


def test_the_report():
    settings = case(checkpointing="off")
    good = Preflight(needs_of(MEASURED, settings, 40 * GB), [])
    assert good.fits
    assert good.line == "memory: at most 20.5 GB of 40.0 GB (encode), checkpointing off"
    assert good.text().startswith("**This run fits.** There are 40.0 GB.")
    assert "| weights | 11.72 | 11.72 | 11.72 | 11.72 | 11.72 |" in good.text()
    slow = Preflight(needs_of(MEASURED, settings, 16 * GB), ["checkpointing on"])
    assert slow.fits
    assert slow.line.endswith("of the model in system memory; to keep the model on the card: checkpointing on")
    bad = Preflight(needs_of(MEASURED, settings, 4 * GB), ["checkpointing on", "offload 0.9"], ("A remark.",))
    assert not bad.fits
    assert bad.line.endswith("update will not fit: checkpointing on, offload 0.9 would")
    assert bad.text().startswith("**This run does not fit.**")
    assert bad.text().endswith("\n\nA remark.")
    never = Preflight(needs_of(MEASURED, settings, 1 * GB), None)
    assert "will not fit, whatever the settings" in never.line
