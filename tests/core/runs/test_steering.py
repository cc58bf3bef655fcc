"""Orders to a run under way: each acts at the next network call, and nothing else changes."""

import json
import threading
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from _toy import PROMPTS, Brightness, Hears, Negative, Redness, ToyPolicy, lines, same, toy_config, without_clock
from pave_core.errors import ConfigError
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.rollout.prompts import PromptSet
from pave_core.runs.checkpoint import load_checkpoint
from pave_core.runs.recipe import load_recipe, recipe_of
from pave_core.training.steering import Steering

HELD_OUT = PromptSet(PROMPTS[:2], PROMPTS[2:])


def config_of(kind, **more):
    """Settings whose steps change the weights once, or at several calls of a step, or that have a running mean."""
    config = toy_config(**more)
    match kind:
        case "per_step":
            return replace(config, optim=replace(config.optim, step="per_step"))
        case "updates":
            return replace(config, pave=replace(config.pave, updates_per_rollout=2, kl_weight=0.01))
        case "average":
            return replace(config, optim=replace(config.optim, ema_decay=0.5))
    return config


class Steered:
    """A run, and what is to be ordered at which of its network calls: {call: [orders]}, after the call has begun."""

    def __init__(self, begin, orders=None, config=None, policy=None, **settings):
        self.steering = Steering()
        config = config or toy_config()
        self.policy = policy or ToyPolicy(config.lora, config.run.seed)
        self.policy.fail = self.heard
        self.orders, self.calls, self.acted = orders or {}, 0, {}
        settings = {"judge": Redness(), "prompts": HELD_OUT} | settings
        self.run = begin(config, policy=self.policy, steering=self.steering, **settings)
        self.calls, self.counting = 0, True

    def heard(self):
        self.steering.check()
        if not getattr(self, "counting", False):
            return
        self.calls += 1
        for order in self.orders.get(self.calls, ()):
            self.steering.order(order)
            self.acted[order] = (len(self.run.steered), self.calls)

    def drive(self, until=None):
        made = []
        with self.run.policy:
            for metrics in self.run.steps():
                self.run.after_step(metrics)
                made.append(metrics)
                if self.run.stopped or metrics.step == until:
                    break
        self.counting = False
        return made


def calls_of(begin, config):
    """How many network calls the steps of a run make."""
    plain = Steered(begin, config=config, name="counted")
    plain.drive()
    plain.run.close()
    return plain.calls


def files_of(run):
    return {path.name for path in run.folder.path.iterdir()}


KINDS = ("plain", "per_step", "updates", "average")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_saved_evaluated_and_paused_at_any_call_gives_the_same_lora(begin, kind):
    config = config_of(kind, iterations=3)
    plain = Steered(begin, config=config)
    expected = without_clock(plain.drive())
    lora = plain.run.finish().lora
    plain.run.close()
    assert not any("steer" in name for name in files_of(plain.run))
    assert "steered" not in plain.run.recipe()
    every = max(1, plain.calls // 12)
    for call in range(1, plain.calls + 1, every):
        one = Steered(begin, {call: ["save", "pause", "evaluate", "go on"]}, config=config)
        made = one.drive()
        assert without_clock(made) == expected, call
        assert same(one.run.finish().lora, lora), call
        said = [entry["order"] for entry in one.run.steered]
        assert sorted(said) == ["evaluate", "go on", "pause", "save"], call
        one.run.close()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_the_last_complete_step_whatever_the_step_under_way_has_done(begin, kind):
    config = config_of(kind, iterations=3, checkpoint_every=100)
    plain = Steered(begin, config=config)
    after_two, after_one = None, None
    with plain.run.policy:
        for metrics in plain.run.steps():
            plain.run.after_step(metrics)
            if metrics.step == 1:
                after_one, first = plain.run.state.capture({}), plain.calls
            if metrics.step == 2:
                after_two, second = plain.run.state.capture({}), plain.calls
    plain.run.close()
    for call in range(first + 1, second + 1):
        one = Steered(begin, {call: ["save"]}, config=config)
        saved = []
        one.run.keeper.save_checkpoint = lambda checkpoint, saved=saved: bool(saved.append(checkpoint)) or True
        one.drive()
        kept = saved[1]  # the first is that after the first step
        wanted = after_one if call < second else after_two
        assert kept.step == wanted.step, call
        assert same(kept.adapter, wanted.adapter), call
        assert same(kept.optimizer, wanted.optimizer), call
        assert same(kept.average, wanted.average), call
        assert kept.counters == wanted.counters, call
        one.run.close()


@pytest.mark.parametrize("kind", KINDS)
def test_an_ordered_evaluation_is_that_of_the_last_complete_step(begin, kind):
    config = config_of(kind, iterations=3)
    plain = Steered(begin, config=config, evaluate_every=1)
    plain.drive()
    plain.run.finish()
    expected = {each["step"]: each for each in evaluations(plain.run)}
    plain.run.close()
    whole = calls_of(begin, config)
    for call in range(1, whole, max(1, whole // 12)):
        one = Steered(begin, {call: ["evaluate"]}, config=config)
        one.drive()
        (entry,) = one.run.steered
        found = {each["step"]: each for each in evaluations(one.run)}
        assert found[entry["step"]] == expected[entry["step"]], call
        one.run.close()


def evaluations(run):
    return json.loads((run.folder.path / "evaluations.json").read_text())


@pytest.mark.parametrize("order", ["save", "halve", "pause", "finish", "evaluate"])
def test_an_order_acts_at_the_next_network_call(begin, order):
    """An evaluation in a gradient waits for its end: in a toy run, that is the end of the step."""
    config = toy_config(iterations=3)
    step = calls_of(begin, config) // 3
    for call in range(step + 1, 2 * step + 1):  # those of the second step
        one = Steered(begin, {call: [order]}, config=config)
        at = []
        act = one.run._act
        one.steering.act = lambda what, act=act, at=at, one=one: at.append((what, one.policy.calls)) or act(what)
        before = []
        one.orders[call] = [order]
        original = one.steering.order

        def give(what, one=one, before=before, original=original):
            before.append((one.policy.calls, torch.is_grad_enabled()))
            original(what)
            if what == "pause":
                threading.Timer(0.02, one.steering.order, ("go on",)).start()

        one.steering.order = give
        one.drive()
        first = next(calls for what, calls in at if what == order)
        given, in_gradient = before[0]
        assert first - given <= 1, (call, first, given)
        done = [entry for entry in one.run.steered if entry["order"] == order]
        assert len(done) == 1, call
        if order == "finish":
            assert one.run.state.step == (1 if call < 2 * step else 2)
        if order == "evaluate":
            assert done[0]["step"] == (2 if in_gradient else 1), call
        one.run.close()


def test_the_rate_is_halved_from_the_next_optimizer_step_on_and_so_it_stays_after_a_resume(begin, places):
    config = toy_config(iterations=4, checkpoint_every=100)
    step = calls_of(begin, config) // 4
    one = Steered(begin, {step + 2: ["halve"]}, config=config)
    rates = [metrics.learning_rate for metrics in one.drive()]
    assert rates == [0.005, 0.0025, 0.0025, 0.0025]
    lora = one.run.finish().lora
    one.run.close()

    cut = Steered(begin, {step + 2: ["halve"]}, config=config)
    cut.drive(until=2)
    cut.run.folder.release()  # killed: what is on disk is the first step, with what was ordered after it
    kept = load_checkpoint(cut.run.folder.checkpoint)
    assert (kept.step, kept.counters["halvings"]) == (1, 1)
    again = Steered(begin, config=config, resume=cut.run.folder.name)
    again.drive()
    outcome = again.run.finish()
    assert same(outcome.lora, lora)
    entry = {"step": 1, "order": "halve", "halvings": 1}
    assert again.run.steered == outcome.lora.recipe["steered"] == [entry]
    assert outcome.summary.to_dict()["steered"] == [entry]
    assert "steered by hand: after step 1 learning rate halved" in outcome.summary.text()
    assert load_recipe(places.lora(again.run.folder.name))["steered"] == [entry]


def test_a_step_that_is_cut_off_keeps_the_halving(begin):
    config = config_of("per_step", iterations=3)
    step = calls_of(begin, config) // 3
    one = Steered(begin, {2 * step - 4: ["halve"]}, config=config)

    def cancel():
        one.heard()
        if one.calls == 2 * step - 2:
            raise KeyboardInterrupt

    one.policy.fail = cancel
    with pytest.raises(KeyboardInterrupt):
        one.drive()
    one.run.stop("cancelled")
    kept = load_checkpoint(one.run.folder.checkpoint)
    assert (kept.step, kept.counters["halvings"]) == (1, 1)


def test_a_run_that_is_finished_by_hand_is_as_one_of_so_many_steps(begin, places):
    short = Steered(begin, config=toy_config(iterations=2))
    short.drive()
    expected = short.run.finish()
    short.run.close()
    config = toy_config(iterations=9)
    step = short.calls // 2
    one = Steered(begin, {2 * step + 3: ["finish"]}, config=config)
    made = one.drive()
    outcome = one.run.finish()
    one.run.close()
    assert len(made) == 2
    assert same(outcome.lora, expected.lora)
    assert evaluations(one.run) == evaluations(short.run)
    assert {"curve.png", "grid.png", "summary.json"} <= files_of(one.run)
    summary = json.loads((one.run.folder.path / "summary.json").read_text())
    assert (summary["stopped"], summary["steered"]) == (None, [{"step": 2, "order": "finish"}])
    assert one.run.stopped == "stopped by hand after step 2"

    again = Steered(begin, config=config, resume=one.run.folder.name)
    assert again.run.stopped is None
    again.drive()
    whole = Steered(begin, config=config)
    whole.drive()
    assert same(again.run.finish().lora, whole.run.finish().lora)
    assert again.run.lora().recipe["steered"] == [{"step": 2, "order": "finish"}]


def test_a_run_cannot_be_finished_before_its_first_step_and_then_is(begin):
    one = Steered(begin, {2: ["finish"]})
    assert len(one.drive()) == 1
    assert one.run.finish().summary.steps == 1


def test_a_run_is_paused_until_it_goes_on_and_that_is_no_time_of_a_step(begin):
    hears, began = Hears(), time.perf_counter()
    one = Steered(begin, {3: ["pause"]}, reporters=[hears])
    seen = []

    def look():  # it is paused for 0.6 seconds at least
        while not one.steering.view().paused:
            time.sleep(0.01)
        time.sleep(0.3)
        seen.append((one.steering.view().paused, one.policy.calls))
        time.sleep(0.3)
        seen.append((one.steering.view().paused, one.policy.calls))
        with pytest.raises(ConfigError, match="paused already"):
            one.steering.order("pause")
        one.steering.order("save")
        one.steering.order("go on")

    other = threading.Thread(target=look)
    other.start()
    started = time.perf_counter()
    made = one.drive()
    other.join()
    assert seen[0] == seen[1] == (True, seen[0][1])
    assert sum(sum(metrics.seconds.values()) for metrics in made) < time.perf_counter() - started - 0.6
    assert one.run.finish().summary.train_seconds < time.perf_counter() - began - 0.6
    assert ("message", "paused after step 0") in hears.said
    assert [record["order"] for record in lines(one.run.folder.path / "steering.jsonl")] == ["pause", "save", "go on"]


def test_cancel_works_while_a_run_is_paused(begin):
    cancelled = threading.Event()

    def check():
        if cancelled.is_set():
            raise KeyboardInterrupt

    one = Steered(begin)
    one.steering._check = check
    one.drive(until=1)
    one.counting, one.orders = True, {one.calls + 2: ["pause"]}
    timer = threading.Timer(0.3, cancelled.set)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        one.drive()
    one.run.stop("cancelled")
    assert load_checkpoint(one.run.folder.checkpoint).step == 1
    assert not one.steering.view().paused
    with pytest.raises(ConfigError, match="has ended"):
        one.steering.order("save")


def test_a_run_is_paused_while_it_begins(begin):
    steering, config = Steering(), toy_config(iterations=1)
    policy = ToyPolicy(config.lora, config.run.seed)
    policy.fail = steering.check
    steering.order("pause")
    steering.order("evaluate")
    threading.Timer(0.2, steering.order, ("go on",)).start()
    started = time.monotonic()
    run = begin(config, policy=policy, steering=steering)
    assert time.monotonic() - started > 0.19
    assert [entry["order"] for entry in run.steered] == ["pause", "go on"]
    assert steering.view().waiting == ("evaluate",)  # until there is a run that can
    with run.policy:
        run.after_step(next(run.steps()))
    assert steering.view() == replace(steering.view(), waiting=(), paused=False)


def test_a_run_that_is_paused_before_its_first_step_and_cancelled_leaves_nothing(begin, places):
    one = Steered(begin, {1: ["pause", "go on"]})

    def cancel():
        one.heard()
        if one.calls == 5:
            raise KeyboardInterrupt

    one.policy.fail = cancel
    with pytest.raises(KeyboardInterrupt):
        one.drive()
    assert "steering.jsonl" in files_of(one.run)
    one.run.stop("cancelled")
    assert list(places.runs.iterdir()) == []


def test_orders_in_the_middle_of_an_evaluation_wait_for_nothing_and_save_what_is_trained(begin):
    """The evaluation shows the running mean; what is saved has the weights that are trained."""
    config = config_of("average", iterations=2, checkpoint_every=100)
    plain = Steered(begin, config=config)
    plain.drive(until=1)
    wanted = plain.run.state.capture({})
    plain.run.close()
    one = Steered(begin, config=config, evaluate_every=1)
    saved = []
    one.run.keeper.save_checkpoint = lambda checkpoint: bool(saved.append((one.calls, checkpoint))) or True
    at = plain.calls + 2  # the evaluation after the first step has begun
    one.orders = {at: ["save", "evaluate", "halve"]}
    one.drive()
    assert saved[0][0] == at  # calls are counted after they have been let in
    assert same(saved[0][1].adapter, wanted.adapter)
    assert same(saved[0][1].average, wanted.average)
    assert [entry["order"] for entry in one.run.steered] == ["save", "halve", "evaluate"]
    assert one.run.state.halvings == 1


def test_an_evaluation_that_fails_is_said_and_the_run_goes_on(begin):
    hears, flaw = Hears(), []

    class Flawed(Brightness):
        def __call__(self, images, prompts):
            if flaw:
                raise ConfigError("flawed: it fails")
            return super().__call__(images, prompts)

    one = Steered(begin, judge=Flawed(), reporters=[hears])
    one.orders = {3: []}
    one.drive(until=1)
    flaw.append(1)
    one.counting, one.orders = True, {one.calls + 2: ["evaluate"]}
    assert len(one.drive(until=3)) == 2
    assert any("step 1 could not be evaluated" in text for _, text, *_ in hears.said if isinstance(text, str))


def test_a_guard_ends_a_run_whose_rate_was_halved_by_hand_often(begin):
    guard = GuardSettings(GuardConfig(every=1, max_drop=0.0, max_drift=1e-9, action="lower learning rate"), Negative())
    one = Steered(begin, {1: ["halve"]}, config=toy_config(iterations=12), guard=guard)
    for call in (2, 3, 4):
        one.orders[call] = ["halve"]
    one.drive()
    assert "drift" in one.run.stopped
    assert (one.run.state.step, one.run.state.halvings) == (1, 4)


def test_an_order_is_given_once_until_it_is_done(begin):
    steering = Steering()
    steering.order("save")
    with pytest.raises(ConfigError, match="ordered already"):
        steering.order("save")
    with pytest.raises(ConfigError, match="not paused"):
        steering.order("go on")
    steering.order("pause")
    with pytest.raises(ConfigError, match="paused already"):
        steering.order("pause")
    steering.order("go on")
    assert steering.view().waiting == ("save", "pause", "go on")


def test_orders_from_many_threads_are_all_done_once(begin):
    one = Steered(begin, config=toy_config(iterations=6))
    given, refused, ended = [], [], threading.Event()

    def give(order):
        while not ended.is_set():
            try:
                one.steering.order(order)
                given.append(order)
            except ConfigError:
                refused.append(order)
            time.sleep(0.001)

    threads = [threading.Thread(target=give, args=(order,)) for order in ("save", "evaluate", "pause", "go on")]
    for thread in threads:
        thread.start()
    made = one.drive()
    ended.set()
    for thread in threads:
        thread.join()
    one.run.close()
    assert len(made) == 6
    assert given
    plain = Steered(begin, config=toy_config(iterations=6))
    plain.drive()
    assert same(one.run.policy.export(), plain.run.policy.export())


def test_the_recipe_of_a_run_that_nobody_steers_is_the_task_s_alone(begin, places):
    one = Steered(begin)
    one.drive()
    lora = one.run.finish().lora
    expected = recipe_of(one.run.policy, one.run.task, one.run.base) | {"step": 4}
    assert json.dumps(lora.recipe) == json.dumps(expected)
    assert "steered" not in one.run.folder.path.joinpath("summary.json").read_text()
    assert same(load_file(places.lora(one.run.folder.name)), lora)
