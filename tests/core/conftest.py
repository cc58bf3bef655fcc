"""Runs on the toy world of tests/support/_toy.py."""

from collections.abc import Callable
from pathlib import Path

import pytest

from _toy import PROMPTS, SEEDS, Brightness, ToyDecoder, ToyPolicy, toy_config
from pave_core.rollout.prompts import PromptSet
from pave_core.runs import begin as core
from pave_core.runs import keeper
from pave_core.runs.folder import Places
from pave_core.runs.run import Run
from pave_core.runs.settings import RunSettings, Task
from pave_core.scoring.mix import RewardMix

NONE_HELD_OUT = PromptSet(PROMPTS, ())


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Where the runs of a test are kept. Nothing waits from the tests before."""
    keeper._waiting.clear()
    return Places(tmp_path / "runs", tmp_path / "loras", tmp_path / "spare")


@pytest.fixture
def begin(places: Places) -> Callable[..., Run]:
    """Begin a run in `places`; its reward, unless it is given, is brightness, and `settings` are those of RunSettings.

    reward=None: only whoever drives the run can score. No check of the reward, unless check_reward=True.
    """

    def made(
        config=None,
        *,
        reward=...,
        judge=None,
        prompts=NONE_HELD_OUT,
        policy=None,
        reporters=(),
        preflight=None,
        steering=None,
        **settings,
    ) -> Run:
        config = config or toy_config()
        mix = None if reward is None else RewardMix.of(Brightness() if reward is ... else reward)
        settings = {"iterations": config.run.iterations, "check_reward": False} | settings
        return core.begin(
            policy or ToyPolicy(config.lora, config.run.seed),
            ToyDecoder(),
            task=Task(config, RunSettings(evaluation_seeds=len(SEEDS), **settings), prompts, mix, judge),
            places=places,
            reporters=reporters,
            preflight=preflight,
            steering=steering,
        )

    return made
