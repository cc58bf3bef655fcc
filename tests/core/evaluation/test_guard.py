"""What the guard reads from one measurement, and what it refuses to watch."""

import colorsys
import json
import math
from dataclasses import replace

import pytest
import torch

from _toy import Brightness, Constant, Negative, Redness
from pave_core.errors import ConfigError
from pave_core.evaluation.evaluate import Evaluation
from pave_core.evaluation.guard import Baseline, Best, GuardConfig, GuardSettings, Reading, means, read
from pave_core.evaluation.looks import Looks
from pave_core.scoring.mix import RewardMix
from pave_core.seeds import seeded

IMAGES = torch.rand(4, 3, 5, 3, generator=seeded(0)) * 0.6 + 0.2
OFF = GuardConfig(max_drop=0.0)


def evaluation(*held_out, images=IMAGES):
    """Four images with these held-out scores; none: without a held-out reward."""
    scores = torch.tensor(held_out) if held_out else None
    return Evaluation(("a",) * 4, (1, 2, 3, 4), images, {}, torch.zeros(4), None, scores, Looks.of(images))


def reading_of(now, drift=0.0, *, config=OFF, before=None, best=Best(), step=10):  # noqa: B008 - it is frozen
    base = Baseline.of(before or evaluation(0.0, 1.0, 2.0, 3.0), config)
    return read(now, drift, step=step, config=config, base=base, best=best)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"every": 0}, "every: 0 is below 1"),
        ({"action": "pray"}, "action: 'pray' is not known"),
        ({"max_drop": -0.1}, "max_drop: -0.1 is below 0"),
        ({"max_drift": math.nan}, "max_drift: nan"),
        ({"max_change": math.inf}, "max_change: inf"),
    ],
)
def test_bad_thresholds_name_the_field(values, message):
    with pytest.raises(ConfigError, match=message):
        GuardConfig(**values)


def test_a_drop_is_counted_from_the_best_in_units_of_the_base_s_spread():
    """0, 1, 2, 3 have the mean 1.5 and the standard deviation sqrt(5 / 3)."""
    now = evaluation(0.0, 0.0, 1.0, 1.0)
    spread = math.sqrt(5 / 3)
    assert reading_of(now).held_out == 0.5
    assert reading_of(now).drop == pytest.approx((1.5 - 0.5) / spread)
    assert reading_of(now, best=Best(5, 2.5)).drop == pytest.approx((2.5 - 0.5) / spread)
    assert reading_of(now, best=Best(5, 1.0)).drop == pytest.approx((1.5 - 0.5) / spread)  # the base was better


def test_images_without_a_held_out_score_do_not_count():
    base = Baseline.of(evaluation(0.0, 2.0, 4.0, math.nan), OFF)
    assert (base.held_out, base.spread) == (2.0, 2.0)
    assert reading_of(evaluation(1.0, math.nan, math.nan, 2.0)).held_out == 1.5


def test_a_drop_beyond_its_threshold_is_an_alarm():
    now, drop = evaluation(0.0, 0.0, 1.0, 1.0), 1 / math.sqrt(5 / 3)
    assert reading_of(now, config=GuardConfig(max_drop=drop + 0.01)).alarms == ()
    (alarm,) = reading_of(now, config=GuardConfig(max_drop=drop - 0.01)).alarms
    limit = 1.5 - (drop - 0.01) * math.sqrt(5 / 3)
    assert alarm == f"the held-out reward fell from 1.5 to 0.5, below the limit of {limit:.4g}"
    assert reading_of(now, config=OFF).alarms == ()


def test_drift_beyond_its_threshold_is_an_alarm():
    now = evaluation(1.0, 2.0, 3.0, 4.0)
    assert reading_of(now, 0.05, config=replace(OFF, max_drift=0.06)).alarms == ()
    found = reading_of(now, 0.05, config=replace(OFF, max_drift=0.04))
    assert found.alarms == ("the model has drifted by 0.05 from its base, beyond the limit of 0.04",)
    assert found.drift == 0.05
    assert reading_of(now, 9.9, config=OFF).alarms == ()


def test_a_change_is_relative_to_the_statistic_at_the_start():
    def saturation(images):
        values = [colorsys.rgb_to_hsv(*pixel)[1] for pixel in images.reshape(-1, 3).tolist()]
        return sum(values) / len(values)

    paler = IMAGES * 0.5 + 0.25
    assert means(Looks.of(IMAGES))["saturation"] == pytest.approx(saturation(IMAGES), rel=1e-4)
    change = saturation(paler) / saturation(IMAGES) - 1
    now = evaluation(1.0, 2.0, 3.0, 4.0, images=paler)
    found = reading_of(now, config=replace(OFF, max_change=0.05))
    assert found.changes.keys() == {"saturation", "contrast", "flatness"}
    assert found.changes["saturation"] == pytest.approx(change, rel=1e-4)
    assert f"the saturation of the images has changed by {change:+.0%}, beyond the limit of 5%" in found.alarms
    assert reading_of(now, config=OFF).alarms == ()


def test_a_statistic_that_was_nearly_zero_is_compared_with_a_tenth():
    grey = torch.full_like(IMAGES, 0.5)
    red = torch.tensor([0.5, 0.4, 0.4]).expand_as(IMAGES)
    before = evaluation(0.0, 1.0, 2.0, 3.0, images=grey)
    assert means(Looks.of(grey))["saturation"] == 0
    found = reading_of(evaluation(1.0, 2.0, 3.0, 4.0, images=red), before=before)
    assert found.changes["saturation"] == pytest.approx(colorsys.rgb_to_hsv(0.5, 0.4, 0.4)[1] / 0.1, rel=1e-4)


def test_the_best_is_the_highest_without_an_alarm_and_the_first_in_any_case():
    low, high = evaluation(0.0, 0.0, 1.0, 1.0), evaluation(3.0, 3.0, 4.0, 4.0)
    assert reading_of(low).best
    assert reading_of(high, best=Best(5, 3.0)).best
    assert not reading_of(high, best=Best(5, 3.5)).best  # as high, but not higher
    assert not reading_of(low, best=Best(5, 3.0)).best
    assert not reading_of(high, 1.0, config=replace(OFF, max_drift=0.1)).best


def test_without_a_held_out_reward_the_last_without_an_alarm_is_the_best():
    drifting = GuardConfig(max_drift=0.1)
    found = reading_of(evaluation(), 0.05, config=drifting, before=evaluation(), best=Best(5, None))
    assert (found.held_out, found.drop, found.best) == (None, None, True)
    assert not reading_of(evaluation(), 0.2, config=drifting, before=evaluation(), best=Best(5, None)).best


def test_a_reading_survives_json():
    found = reading_of(evaluation(0.0, 0.0, 1.0, 1.0), config=GuardConfig(max_drop=0.1))
    assert found.alarms
    assert Reading.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_what_shows_nothing_is_refused():
    with pytest.raises(ConfigError, match="^guard: there is nothing to watch: connect a reward to held_out"):
        Baseline.of(evaluation(), GuardConfig())
    assert Baseline.of(evaluation(), GuardConfig(max_drift=0.1)).held_out is None
    assert Baseline.of(evaluation(), GuardConfig(max_change=0.1)).held_out is None
    with pytest.raises(ConfigError, match="^guard: its reward gives all 4 held-out images the same number"):
        Baseline.of(evaluation(1.0, 1.0, 1.0, 1.0), GuardConfig())
    nan = float("nan")
    for scores, shown in (((nan, nan, nan, nan), 0), ((nan, 1.0, nan, nan), 1)):
        with pytest.raises(ConfigError, match=f"^guard: its reward scored {shown} of 4 held-out images: at least two"):
            Baseline.of(evaluation(*scores), GuardConfig())


def test_the_guard_goes_by_its_own_reward_or_the_judge():
    reward, own, judge = RewardMix.of(Brightness()), Negative(), Redness()
    assert GuardSettings(GuardConfig(), own).watched(reward, judge) is own
    assert GuardSettings(GuardConfig(), None).watched(reward, judge) is judge
    assert GuardSettings(GuardConfig(), None).watched(reward, None) is None


@pytest.mark.parametrize(
    ("own", "judge"),
    [
        (Brightness(), None),
        (None, Brightness()),
        (RewardMix((Negative(), Brightness()), (1.0, 1.0)), None),
    ],
)
def test_a_reward_that_is_trained_on_cannot_be_held_out(own, judge):
    reward = RewardMix((Brightness(), Constant()), (1.0, 0.5))
    with pytest.raises(ConfigError, match="^guard: its reward 'brightness' is trained on"):
        GuardSettings(GuardConfig(), own).watched(reward, judge)


def test_a_reward_of_weight_zero_is_not_trained_on():
    reward, own = RewardMix((Brightness(), Redness()), (1.0, 0.0)), Redness()
    assert GuardSettings(GuardConfig(), own).watched(reward, None) is own


def test_a_recipe_holds_the_thresholds_and_the_held_out_reward():
    record = GuardSettings(GuardConfig(every=3, max_drift=0.5), Negative()).to_dict()
    assert record == {
        "every": 3,
        "action": "stop",
        "max_drop": 0.2,
        "max_drift": 0.5,
        "max_change": 0.0,
        "held_out": {"name": "negative"},
    }
    assert GuardSettings(GuardConfig(), None).to_dict()["held_out"] is None
