"""How long a run takes, by numbers written out here, and by a clock that goes on only where a run works."""

import re
import time
from dataclasses import replace

import pytest

from _toy import PROMPTS, SEEDS, Brightness, Negative, Redness, ToyDecoder, ToyPolicy, drive, toy_config
from pave_core.config.objective import PaveConfig
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.memory.calls import Seconds
from pave_core.memory.pace import Duration, Pace, in_time
from pave_core.rollout.prompts import PromptSet
from pave_core.runs.log import Reporter

VELOCITY, DECODE, REWARD, JUDGE = 2.0, 0.5, 0.25, 4.0
"""The seconds that each latent or image takes."""
PROMPT_SET = PromptSet(PROMPTS[:2], PROMPTS[2:])
MEASURED = len(PROMPTS[2:]) * len(SEEDS)
"""Images of a measurement."""
STEP = {"rollout": 6.0, "decode": 1.0, "reward": 1.0, "update": 4.0}
GUARD = GuardSettings(GuardConfig(every=3), Negative())


class Said(Reporter):
    """What a run says of its time, and how often it measures after it has begun."""

    def __init__(self):
        self.durations, self.messages, self.measured, self.steps = [], [], 0, 0

    def expected(self, duration):
        assert self.steps == 0
        self.durations.append(duration)

    def step(self, metrics, steps):
        self.steps += 1

    def message(self, text, *, warning=False):
        self.messages.append(text)

    def numbers(self, step, numbers):
        self.measured += "held_out/gain" in numbers


@pytest.fixture
def clocked(begin, monkeypatch):
    """clocked(config, ...) -> (a run by a clock of the test's own, what it said)."""
    now = [0.0]

    def takes(seconds, owner, name):
        function = getattr(owner, name)

        def working(self, items, *others):
            now[0] += seconds * len(items)
            return function(self, items, *others)

        monkeypatch.setattr(owner, name, working)

    takes(VELOCITY, ToyPolicy, "velocity")
    takes(DECODE, ToyDecoder, "decode")
    takes(REWARD, Brightness, "__call__")
    takes(JUDGE, Redness, "__call__")
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def made(config=None, **parts):
        said = Said()
        return begin(config, reporters=[said], **parts), said

    return made


@pytest.mark.parametrize(
    "config",
    [
        toy_config(),
        toy_config(exploration="trajectories", coarser_tails=(2,)),
        toy_config(contrast=2, tail_steps=3),
        toy_config(optimizer_step="per_step"),
        replace(toy_config(), pave=PaveConfig(segments=(3,), kl_weight=0.1)),
    ],
    ids=["branches", "trajectories", "contrast", "per_step", "divergence"],
)
def test_a_step_takes_what_was_foretold(clocked, config):
    run, said = clocked(config, prompts=PROMPT_SET)
    (metrics, *_) = drive(run)
    assert metrics.zero_spread_groups == 0, "groups are left out of the update: this test shows nothing"
    foretold = said.durations[-1].step
    assert list(foretold) == ["rollout", "decode", "reward", "update"]
    assert {phase: metrics.seconds[phase] for phase in foretold} == pytest.approx(foretold)
    assert foretold["update"] >= VELOCITY


@pytest.mark.parametrize(
    ("settings", "judge"),
    [({}, None), ({"evaluate_every": 2}, Redness()), ({"evaluate_every": 2, "guard": GUARD}, None)],
    ids=["before and after", "with a judge", "with a guard"],
)
def test_a_run_takes_what_was_foretold(clocked, settings, judge):
    """All that is left, to the second, and as often measured."""
    run, said = clocked(toy_config(iterations=7), prompts=PROMPT_SET, judge=judge, **settings)
    first, duration = said.durations
    measuring = MEASURED * (6 * VELOCITY + DECODE + REWARD + (JUDGE if judge else 0))
    assert first.step.keys() == {"rollout", "update"}  # before the base model is measured
    assert first.measurement == pytest.approx(MEASURED * 6 * VELOCITY)
    assert first.measurements(0) == duration.measurements(0) + 1
    assert duration.measurement == pytest.approx(measuring)
    start = time.perf_counter()
    made = drive(run)
    run.finish()
    assert said.measured == duration.measurements(0)
    drift = 3 * 3 * VELOCITY * len(PROMPTS[2:]) if "guard" in settings else 0.0  # which is not counted
    found = sum(sum(metrics.seconds.values()) for metrics in made)
    assert duration.left(0) == pytest.approx(found + duration.measurements(0) * measuring)
    assert time.perf_counter() - start == pytest.approx(duration.left(0) + drift)
    assert said.messages[-1].startswith("time: about ")


def test_what_is_left_of_a_run_that_is_resumed(clocked):
    run, said = clocked(toy_config(iterations=7), prompts=PROMPT_SET, evaluate_every=2)
    drive(run, until=3)
    run.stop("enough")
    resumed = {"prompts": PROMPT_SET, "evaluate_every": 2, "resume": run.folder.path.name}
    run, again = clocked(toy_config(iterations=7), **resumed)
    (whole, left) = said.durations[-1], again.durations[-1]
    assert (whole.steps, whole.done, left.steps, left.done) == (7, 0, 7, 3)
    assert (whole.measurements(0), left.measurements(3)) == (4, 3)
    assert whole.left(3) == pytest.approx(left.left(3))
    assert re.search("for 4 steps of .* and 3 measurements of", left.line)
    drive(run)
    run.stop("enough")
    _, done = clocked(toy_config(iterations=7), **resumed)
    assert not done.durations
    assert not any(said.startswith("time:") for said in done.messages)


def test_without_a_reward_a_graph_decides(clocked):
    """76 velocities of the rollouts and 16 of the update take 184 seconds."""
    _, said = clocked(reward=None, iterations=None)
    assert said.durations[-1].left(0) is None
    assert said.messages[-1] == "time: at least 3.1 min a step, without decoding and the reward"


PACE = Pace(Seconds(sampling=0.06, forward=0.1, backward=0.2), toy_config(), update_batch=1)


def test_what_is_not_known_is_left_out():
    assert PACE.step.keys() == {"rollout", "update"}
    assert PACE.measurement(10) == pytest.approx(10 * 6 * 0.06)
    known = PACE.of_images(decode=0.5, reward=0.25)
    assert known.measurement(10) == pytest.approx(10 * (6 * 0.06 + 0.75))
    assert known.step["reward"] == pytest.approx(known.step["decode"] / 2)
    assert known.of_images(decode=0.5, reward=float("nan")).step.keys() == {"rollout", "decode", "update"}


def test_the_words():
    whole = Duration(STEP, 300, measurement=40.0, every=(50,), unmeasured=True)
    assert whole.left(0) == 300 * 12 + 7 * 40
    assert whole.line == "time: about 65 min for 300 steps of 12 s and 7 measurements of 40 s"
    assert whole.short == "about 65 min to go"
    one = Duration({"rollout": 6.0, "update": 600.0}, 4, 3, 40.0, asks=True)
    assert one.line == (
        "time: at least 11 min for 1 step of 10 min and 1 measurement of 40 s, without decoding, the reward and the "
        "time that you take to answer"
    )
    assert Duration(STEP, 3).line == "time: about 36 s for 3 steps of 12 s"
    assert Duration(STEP).line == "time: about 12 s a step"
    assert Duration(STEP).short == "about 12 s a step"
    assert Duration({"rollout": 6.0}, 10).short == "at least 60 s to go"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0.0, "0 s"), (0.034, "0.034 s"), (2.14, "2.1 s"), (9.94, "9.9 s"), (9.96, "10 s"), (89.4, "89 s")),
        *((90.0, "1.5 min"), (700.0, "12 min"), (89 * 60.0, "89 min"), (90 * 60.0, "1.5 h"), (33_000.0, "9.2 h")),
        (500_000.0, "139 h"),
    ],
)
def test_a_time_in_words(seconds, words):
    assert in_time(seconds) == words


@pytest.mark.parametrize("every", [(), (0,), (1,), (2,), (2, 3), (0, 5), (100,)])
def test_what_is_left_after_a_step(every):
    for steps in range(1, 12):
        duration = Duration(STEP, steps, measurement=40.0, every=every)
        for done in range(steps):
            measured = {steps} | {n for each in every if each for n in range(each, steps, each) if n > done}
            assert duration.measurements(done) == len(measured)
            assert duration.left(done) == (steps - done) * 12 + len(measured) * 40
            assert duration.left(done, each=2.0) == (steps - done) * 2 + len(measured) * 40
        assert duration.left(steps) == duration.left(steps + 1) == 0
    assert Duration(STEP, 7, every=every).measurements(0) == 0
