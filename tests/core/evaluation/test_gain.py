"""Paired gains, against scipy's paired t-test."""

import math

import pytest
import torch
from scipy import stats

from _toy import SEEDS, Brightness, Redness, Shy, ToyTraining, toy_config
from pave_core.evaluation.evaluate import Evaluation, evaluate
from pave_core.evaluation.gain import Comparison, comparison_table, paired_gain
from pave_core.evaluation.looks import Change
from pave_core.rewards.statistics import STATISTICS
from pave_core.scoring.mix import RewardMix


def before_and_after(run, seeds=SEEDS, judge=None):
    """The evaluations around all steps of a run."""

    def evaluated():
        return evaluate(
            run.policy,
            run.decoder,
            reward=run.reward,
            judge=judge,
            conds=run.conds,
            seeds=seeds,
            config=run.config.rollout,
        )

    before = evaluated()
    list(run.stream())
    return before, evaluated()


def test_a_gain_and_its_error_are_those_of_the_paired_t_test():
    mix = RewardMix((Brightness(), Redness()), (1.0, 1.0))
    before, after = before_and_after(ToyTraining(toy_config(iterations=12), mix), judge=Brightness())
    assert len(before.prompts) == 12
    compared = Comparison.of(before, after)
    oracle = stats.ttest_rel(after.total.numpy(), before.total.numpy())
    gain, error = paired_gain(before.total, after.total)
    assert gain / error == pytest.approx(oracle.statistic, rel=1e-4)
    assert compared.total.se == error
    assert compared.total.after - compared.total.before == pytest.approx(gain, abs=1e-6)
    for name in ("brightness", "redness"):
        part, oracle = compared.rewards[name], stats.ttest_rel(after.scores[name].numpy(), before.scores[name].numpy())
        assert (part.after - part.before) / part.se == pytest.approx(oracle.statistic, rel=1e-3)
    brightness = compared.rewards["brightness"]
    assert compared.judge == pytest.approx((brightness.before, brightness.after))
    assert compared.images == 12


def test_a_comparison_is_written_under_the_keys_of_summary_json():
    before, after = before_and_after(ToyTraining(toy_config(iterations=1)), judge=Redness())
    compared = Comparison.of(before, after)
    record = compared.to_dict()
    assert record == {
        "reward_before": before.total.mean().item(),
        "reward_after": after.total.mean().item(),
        "reward_se": compared.total.se,
        "judge_before": before.judge.mean().item(),
        "judge_after": after.judge.mean().item(),
        "rewards": {
            "brightness": {
                "before": compared.total.before,
                "after": compared.total.after,
                "se": compared.total.se,
            }
        },
        "held_out_images": 12,
        "image_change": Change.of(before.looks, after.looks).to_dict(),
    }
    shown = STATISTICS["brightness"](before.images / 255).mean().item()  # kept in 8 bits
    assert record["image_change"]["brightness"]["before"] == pytest.approx(shown, abs=0.5 / 255)


def test_without_a_judge_there_is_none_in_the_comparison():
    before, after = before_and_after(ToyTraining(toy_config(iterations=1)))
    compared = Comparison.of(before, after)
    assert compared.judge is None
    assert (compared.to_dict()["judge_before"], compared.to_dict()["judge_after"]) == (None, None)


def test_held_out_gains_leave_out_pairs_without_a_score():
    first, second = before_and_after(ToyTraining(toy_config(iterations=2), reward=Shy()), seeds=(1, 2))
    assert first.total.isnan().tolist() == [True, False, False] * 2
    compared = Comparison.of(first, second)
    scored = ~first.total.isnan()
    assert compared.total.before == compared.to_dict()["reward_before"]
    assert compared.total.before == pytest.approx(first.total[scored].mean().item())
    gains = (second.total - first.total)[scored]
    assert paired_gain(first.total, second.total)[0] == pytest.approx(gains.mean().item())
    assert "nan" not in comparison_table(first, second, ("a", "b"))


def test_one_pair_has_no_error():
    gain, error = paired_gain(torch.tensor([1.0, math.nan]), torch.tensor([1.5, 2.0]))
    assert (gain, error) == (0.5, 0.0)


def test_the_table_has_a_row_for_the_reward_for_each_part_and_for_each_prompt():
    def evaluation(*scores):
        values = torch.tensor(scores)
        parts = {"a|b": values, "c": 0 * values}
        prompts, seeds, images = ("a cat", "a cat", "x" * 61), (1, 2, 1), torch.zeros(3, 1, 1, 3)
        return Evaluation(prompts, seeds, images, parts, values, None)

    table = comparison_table(evaluation(0.0, 1.0, 5.0), evaluation(1.0, 4.0, 4.0), ("old", "new")).splitlines()
    assert table == [
        "|  | old | new | gain | +- |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| reward | 2.0000 | 3.0000 | +1.0000 | 1.1547 |",
        "| a/b alone | 2.0000 | 3.0000 | +1.0000 | 1.1547 |",
        "| c alone | 0.0000 | 0.0000 | +0.0000 | 0.0000 |",
        "| a cat | 0.5000 | 2.5000 | +2.0000 | 1.0000 |",
        f"| {'x' * 57}... | 5.0000 | 4.0000 | -1.0000 | 0.0000 |",
    ]
