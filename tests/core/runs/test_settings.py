"""What a run is asked."""

import pytest

from _toy import PROMPTS, Brightness, Negative, toy_config
from pave_core.errors import ConfigError
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.rollout.prompts import PromptSet
from pave_core.runs.settings import RunSettings, Task
from pave_core.scoring.mix import RewardMix

GUARD = GuardSettings(GuardConfig(), Negative())


def task(reward, judge=None, **settings):
    return Task(toy_config(), RunSettings(**settings), PromptSet(PROMPTS, ()), reward, judge)


def test_the_seeds_of_the_held_out_images_count_from_one():
    assert RunSettings().seeds == (1, 2, 3, 4)
    assert RunSettings(evaluation_seeds=1).seeds == (1,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"judge": Negative()},
            "judge: it is measured together with the reward: connect a reward as well",
        ),
        ({"guard": GUARD}, "guard: it is measured together with the reward: connect a reward as well"),
    ],
)
def test_what_watches_needs_a_reward_that_measures(arguments, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        task(None, **arguments)
    assert task(RewardMix.of(Brightness()), **arguments)


def test_a_run_may_be_scored_by_nodes_alone():
    assert task(None).reward is None


def test_a_task_without_training_prompts_is_refused():
    with pytest.raises(ConfigError, match="^prompts: there are none to train on"):
        Task(toy_config(), RunSettings(), PromptSet((), ("a cat",)), RewardMix.of(Brightness()))
