"""The curve of a run: drawn whole whatever is in it, with a place for each thing that there is to show."""

import math
from dataclasses import replace

import pytest
import torch

from _toy import Brightness, Negative, Redness, drive, toy_config
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.images import picture
from pave_core.pictures.curve import reward_curve
from pave_core.scoring.mix import RewardMix

BOTH = RewardMix((Brightness(), Redness()), (1.0, 1.0))


@pytest.fixture
def guarded(begin):
    """A run of two rewards with a judge and a guard, to its end."""
    guard = GuardSettings(GuardConfig(every=3, max_drop=0.5), Negative())
    run = begin(toy_config(iterations=12), reward=BOTH, judge=Redness(), guard=guard)
    drive(run)
    run.finish()
    return run


def test_a_curve_of_held_out_gains(begin, artifacts):
    run = begin(toy_config(iterations=12), reward=BOTH, judge=Brightness())
    drive(run)
    run.finish()
    evaluations = {step: run.measurements.evaluations[step] for step in (0, 12)}
    curve = reward_curve(run.history, evaluations)
    assert curve.shape[-1] == 3
    assert curve.std() > 0.05
    picture(curve).save(artifacts / "core_curve.png")


def test_the_curve_shows_guard_and_judge(guarded, artifacts):
    history, evaluations, readings = guarded.history, guarded.measurements.evaluations, guarded.watch.readings
    shown = reward_curve(history, evaluations, readings, guarded.chosen.step)
    plain = reward_curve(history, evaluations)
    assert shown.shape == plain.shape  # the guard's numbers stand beside the judge
    assert not torch.equal(shown, plain)
    picture(shown).save(artifacts / "core_guarded_curve.png")


def test_each_thing_to_show_has_a_panel(guarded):
    history, evaluations = guarded.history, guarded.measurements.evaluations
    alone = [{**record, "rewards": {"brightness": record["rewards"]["brightness"]}} for record in history]
    unwatched = {step: replace(each, judge=None, held_out=None) for step, each in evaluations.items()}
    six = [{**record, "rewards": dict.fromkeys("abcdef", (0.5, 0.1))} for record in history]
    heights = [
        reward_curve(alone, {}).shape[0],
        reward_curve(history, {}).shape[0],
        reward_curve(history, unwatched).shape[0],
        reward_curve(history, unwatched, guarded.watch.readings).shape[0],
        reward_curve(six, evaluations, guarded.watch.readings).shape[0],
    ]
    assert heights == sorted(set(heights))
    assert reward_curve(history, evaluations).shape[0] == heights[3]
    assert heights[-1] < 1250  # a node shows it at half that


def test_steps_without_a_number_leave_a_gap():
    """None is what metrics.jsonl holds for a number that was not finite."""
    history = [
        {"step": step, "reward_mean": mean, "reward_std": 0.1, "rewards": {"a": (mean, 0.1), "b": (0.5, None)}}
        for step, mean in enumerate((0.1, None, 0.3, 0.4), 1)
    ]
    curve = reward_curve(history, {})
    assert curve.isfinite().all()
    assert curve.std() > 0.05
    assert reward_curve([{"step": 1, "reward_mean": math.nan, "reward_std": 0.0, "rewards": {}}], {}).isfinite().all()


def test_the_same_run_gives_the_same_picture(guarded):
    arguments = (guarded.history, guarded.measurements.evaluations, guarded.watch.readings, guarded.chosen_step)
    curves = [reward_curve(*arguments) for _ in range(2)]
    assert torch.equal(*curves)
    assert curves[0].min() >= 0
    assert curves[0].max() <= 1
