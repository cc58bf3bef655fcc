"""The beginning of a run: what is refused, before anything is written, and what a run begins with."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from _toy import (
    PROMPTS,
    SEEDS,
    Brightness,
    Constant,
    Negative,
    Redness,
    ToyPolicy,
    Twin,
    drive,
    lines,
    same,
    toy_config,
    weights,
)
from pave_core.batches import UNLIMITED
from pave_core.config.adapter import LoraConfig
from pave_core.errors import ConfigError
from pave_core.evaluation.guard import GuardConfig, GuardSettings
from pave_core.memory.needs import Needs
from pave_core.memory.report import Preflight
from pave_core.rollout.prompts import PromptSet
from pave_core.runs.checkpoint import load_checkpoint, previous
from pave_core.scoring.mix import RewardMix


def guard(held_out, **config):
    return GuardSettings(GuardConfig(**config), held_out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "../x"}, "run_name: '../x' is not a plain file name"),
        ({"resume": "../x"}, "resume: '../x' is not a plain file name"),
        ({"resume": "nothing_00001"}, "resume: 'nothing_00001' has no checkpoint in .*: choose one of none yet"),
        (
            {"reward": Constant(), "check_reward": True},
            "reward: it cannot tell your images apart: it gives all images of a group the same number",
        ),
        ({"reward": Constant()}, "reward: constant = 1 for all 12 images"),
        ({"guard": guard(None)}, "guard: there is nothing to watch: connect a reward to held_out"),
        (
            {"guard": guard(RewardMix((Negative(), Brightness()), (1.0, 1.0)))},
            "guard: its reward 'brightness' is trained on",
        ),
        ({"guard": guard(Constant())}, "guard: its reward gives all 12 held-out images the same number"),
        ({"judge": Brightness(), "guard": guard(None)}, "guard: its reward 'brightness' is trained on"),
        ({"reward": None, "judge": Redness()}, "judge: it is measured together with the reward"),
        ({"reward": None, "guard": guard(Redness())}, "guard: it is measured together with the reward"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(begin, tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        begin(**arguments)
    assert list(tmp_path.glob("*/*")) == []


@pytest.mark.parametrize("method", ["sigmas", "encode", "fingerprint", "probe", "velocity"])
def test_a_policy_that_fails_leaves_nothing_written(begin, tmp_path, method):
    policy = ToyPolicy(toy_config().lora)

    def fails(*arguments):
        raise ConfigError(f"{method}: it cannot")

    setattr(policy, method, fails)
    with pytest.raises(ConfigError, match=f"^{method}: it cannot"):
        begin(policy=policy)
    assert list(tmp_path.glob("*/*")) == []


def test_a_run_begins_with_the_base_measured_and_a_folder_of_its_own(begin, places, caplog):
    with caplog.at_level("INFO"):
        run = begin(prompts=PromptSet(PROMPTS[:2], PROMPTS[2:]), judge=Redness(), check_reward=True)
    assert run.folder.path == places.runs / "pave_00001"
    assert [path.name for path in run.folder.path.iterdir()] == ["in_use.lock"]
    assert not places.loras.exists()
    assert (run.state.step, run.history, run.stopped) == (0, [], None)
    assert list(run.conds) == list(PROMPTS[:2])
    before = run.measurements.before
    assert before.prompts == PROMPTS[2:] * len(SEEDS)
    torch.testing.assert_close(before.judge, Redness()(before.images / 255, []), atol=1 / 255, rtol=0)  # in 8 bits
    told = caplog.text
    assert "Pave-GRPO reward check" in told
    assert "This reward can tell your images apart" in told
    assert "settings that are not the defaults: steps 6; branch_steps 0, 2; group_size 4; rank 2; alpha 4;" in told
    assert f"2 prompts to train on, 1 held out, run folder {run.folder.path}" in told
    assert begin().folder.name == "pave_00002"


def test_the_network_is_asked_once_before_the_other_prompts_are_encoded(begin):
    policy, events = ToyPolicy(toy_config().lora), []
    encode = policy.encode
    policy.encode = lambda prompt: events.append(prompt) or encode(prompt)
    policy.probe = lambda cond: events.append(("probe", cond))
    begin(policy=policy, prompts=PromptSet(PROMPTS[:2], PROMPTS[2:]))
    assert events[0] == PROMPTS[0]
    assert events[1][0] == "probe"
    assert torch.equal(events[1][1], encode(PROMPTS[0]))
    assert events[2:] == list(PROMPTS[1:])


def test_what_is_worth_knowing_of_a_model_is_told_at_the_start(begin, caplog):
    policy = ToyPolicy(toy_config().lora)
    policy.remarks = lambda: ["model: it looks like a turbo model"]
    with caplog.at_level("WARNING"):
        begin(policy=policy)
    assert [record.getMessage() for record in caplog.records] == ["Pave-GRPO model: it looks like a turbo model"]


def test_the_policy_is_used_inside_its_block_and_left_at_the_end(begin):
    class Guarded(ToyPolicy):
        """A policy that says whether it was asked anything outside its `with` block."""

        inside = False
        entered = 0

        def __enter__(self):
            self.inside = True
            self.entered += 1
            return self

        def __exit__(self, *error):
            self.inside = False

        def velocity(self, x, sigma, cond):
            assert self.inside
            return super().velocity(x, sigma, cond)

        def encode(self, prompt):
            assert self.inside
            return super().encode(prompt)

    config = toy_config(iterations=2)
    policy = Guarded(config.lora, config.run.seed)
    run = begin(config, policy=policy, check_reward=True, guard=guard(Negative(), every=1))
    assert (policy.entered, policy.inside) == (1, False)
    drive(run)
    run.finish()
    assert not policy.inside


def test_the_base_is_measured_without_the_adapter_also_where_a_run_goes_on(begin):
    first = begin(toy_config(iterations=4))
    drive(first, until=3)
    first.stop("cancelled")
    second = begin(toy_config(iterations=4), resume=first.folder.name)
    assert torch.equal(second.measurements.before.total, first.measurements.before.total)
    assert same(weights(second.policy), weights(first.policy))


def test_only_a_run_that_begins_anew_checks_its_reward(begin, caplog):
    first = begin(check_reward=True)
    drive(first, until=1)
    first.stop("cancelled")
    with caplog.at_level("INFO"):
        begin(check_reward=True, resume=first.folder.name)
    assert "reward check" not in caplog.text


def test_looking_at_the_reward_changes_nothing_of_the_run(begin):
    checked, plain = begin(check_reward=True), begin()
    for run in (checked, plain):
        drive(run)
    assert lines(checked.folder.metrics) == lines(plain.folder.metrics)
    assert same(weights(checked.policy), weights(plain.policy))


def test_a_run_that_nodes_score_measures_nothing(begin):
    run = begin(reward=None)
    assert (run.measurements, run.watch) == (None, None)


@pytest.fixture
def cancelled(begin):
    """The name of a run of four steps that was cancelled after the second."""
    run = begin(judge=Redness(), guard=guard(Negative(), every=3))
    drive(run, until=2)
    run.stop("cancelled")
    return run.folder.name


def resumed(begin, name, config=None, **arguments):
    return begin(
        config or toy_config(),
        **{"judge": Redness(), "guard": guard(Negative(), every=3), "resume": name} | arguments,
    )


def test_a_run_goes_on_with_what_it_had(begin, cancelled):
    run = resumed(begin, cancelled)
    assert run.folder.name == cancelled
    assert [record["step"] for record in run.history] == [1, 2]
    assert run.state.step == 2
    assert len(drive(run)) == 2
    assert [record["step"] for record in lines(run.folder.metrics)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        (replace(toy_config(), lora=LoraConfig(rank=3, alpha=4, targets="all linear")), {}, r"config\.lora\.rank: "),
        (toy_config(eta=0.7), {}, r"config\.rollout\.eta: the checkpoint was made with 0\.8, now it is 0\.7"),
        (None, {"reward": Redness()}, r"reward\.rewards: the checkpoint was made with .*brightness.*, now .*redness"),
        (None, {"judge": None}, "judge: the checkpoint was made with .*redness.*, now it is null"),
        (None, {"guard": guard(Negative(), every=2)}, r"guard\.every: the checkpoint was made with 3, now it is 2"),
        (None, {"prompts": PromptSet(PROMPTS[:2], ())}, "prompts: the checkpoint was made with"),
    ],
)
def test_going_on_with_other_settings_is_refused_and_the_run_stays_as_it_is(
    begin, cancelled, places, config, arguments, message
):
    files = {path: path.read_bytes() for path in places.runs.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=f"^{message}"):
        resumed(begin, cancelled, config, **arguments)
    assert {path: path.read_bytes() for path in places.runs.rglob("*") if path.is_file()} == files


def test_another_base_model_is_refused(begin, cancelled):
    policy = ToyPolicy(toy_config().lora, toy_config().run.seed)
    policy.fingerprint = lambda: "another"
    with pytest.raises(ConfigError, match=r"^model: .* another base model"):
        resumed(begin, cancelled, policy=policy)


def test_the_update_begins_with_what_the_preflight_found_to_fit(begin, caplog):
    asked = []

    def preflight(cond):
        asked.append(cond)
        phases = {"rollout": {"weights": 1.0}, "update": {"weights": 1.0}}
        return Preflight(Needs(phases, False, 0.0, 8.0, states=4, update_batch=3), [])

    with caplog.at_level("INFO"):
        run = begin(preflight=preflight)
    assert run.batches.update.size == 3
    assert len(asked) == 1
    assert any("memory: at most" in said and "3 branch steps at once" in said for said in caplog.messages)
    assert begin().batches.update.size == UNLIMITED


def test_a_base_model_is_known_again_by_the_fingerprint_of_an_earlier_version(begin, cancelled):
    policy = ToyPolicy(toy_config().lora, toy_config().run.seed)
    policy.fingerprint = lambda: "of today"
    policy.is_base = lambda fingerprint: fingerprint in ("toy", "of today")
    run = resumed(begin, cancelled, policy=policy)
    assert run.state.step == 2
    assert run.recipe()["model"] == "of today"


def test_a_run_may_become_longer_and_batches_smaller(begin, cancelled):
    run = resumed(begin, cancelled, toy_config(iterations=6, batch_size=1, checkpoint_every=1))
    assert len(drive(run)) == 4


def test_a_run_whose_length_a_graph_decides_may_always_go_on(begin, cancelled):
    assert resumed(begin, cancelled, toy_config(iterations=2), iterations=None).state.step == 2


@pytest.mark.parametrize("iterations", [1, 2])
def test_a_run_that_is_done_is_finished_without_a_step(begin, cancelled, places, caplog, iterations):
    """What ended it may have come after its last step: all that it gives is made, and nothing is trained."""
    places.lora(cancelled).unlink()
    checkpoint = load_checkpoint(places.runs / cancelled / "checkpoint.safetensors")
    with caplog.at_level("INFO"):
        run = resumed(begin, cancelled, toy_config(iterations=iterations))
    assert f"'{cancelled}' has done 2 of {iterations} steps: it is only measured and finished" in caplog.text
    assert drive(run) == []
    outcome = run.finish()
    assert same(outcome.lora, run.policy.export(None if run.chosen is None else run.chosen.weights))
    assert same(load_file(places.lora(cancelled)), outcome.lora)
    assert outcome.summary.comparison is not None
    assert {"summary.json", "curve.png", "grid.png"} <= {path.name for path in run.folder.path.iterdir()}
    now = load_checkpoint(run.folder.checkpoint)
    assert now.step == checkpoint.step
    assert same(now.adapter, checkpoint.adapter)


def test_a_run_without_its_metrics_is_finished_too(begin, cancelled, places):
    (places.runs / cancelled / "metrics.jsonl").unlink()
    outcome = resumed(begin, cancelled, toy_config(iterations=2)).finish()
    assert outcome.history == []
    assert outcome.summary.to_dict()["training_reward"] == (None, None)


def test_a_run_in_use_is_not_resumed(begin, cancelled):
    first = resumed(begin, cancelled)
    with pytest.raises(ConfigError, match=r"^resume: 'pave_00001' is in use by process \d+ on "):
        resumed(begin, cancelled)
    first.close()
    resumed(begin, cancelled)


def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_the_run_ends_alike(begin, places, caplog):
    config = toy_config(iterations=4, checkpoint_every=1)
    settings = {"judge": Redness(), "guard": guard(Negative(), every=2)}
    whole = begin(config, name="whole", **settings)
    drive(whole)
    first = begin(config, name="damaged", **settings)
    drive(first, until=3)
    first.folder.release()
    file = first.folder.checkpoint
    data = bytearray(file.read_bytes())
    data[-3] ^= 1  # one bit of the last tensor
    file.write_bytes(data)
    with caplog.at_level("WARNING"):
        second = begin(config, resume=first.folder.name, **settings)
    assert "checkpoint.safetensors cannot be read as a checkpoint (its content is not what was written)" in caplog.text
    assert "checkpoint.previous.safetensors is used instead, of step 2" in caplog.text
    assert file.with_name("checkpoint.safetensors.unreadable").exists()
    assert load_checkpoint(file).step == 2
    drive(second)
    assert same(second.finish().lora, whole.finish().lora)
    assert lines(second.folder.metrics) == lines(whole.folder.metrics)


def test_a_best_state_newer_than_the_checkpoint_gives_way_to_the_one_before(begin, places):
    """A crash between the two."""
    config = toy_config(iterations=6)
    settings = {"judge": Redness(), "guard": guard(Twin(), every=2)}
    whole = begin(config, name="whole", **settings)
    drive(whole)
    first = begin(config, name="crashed", **settings)
    drive(first, until=4)
    first.folder.release()
    previous(first.folder.checkpoint).replace(first.folder.checkpoint)
    assert load_checkpoint(first.folder.checkpoint).step == 2
    assert load_checkpoint(first.folder.best).step == 4
    second = begin(config, resume=first.folder.name, **settings)
    assert second.watch.best.step == 2
    drive(second)
    assert second.watch.readings == whole.watch.readings


def test_a_lost_best_state_is_said_and_the_newest_stands_in(begin, cancelled, places, caplog):
    run = resumed(begin, cancelled)
    drive(run, until=3)
    assert run.watch.readings[-1].best
    run.close()
    run.folder.best.write_bytes(b"nothing")
    with caplog.at_level("WARNING"):
        second = resumed(begin, cancelled)
    assert "best.safetensors cannot be read as a checkpoint" in caplog.text
    assert (second.chosen_step, second.watch.best.recipe) == (3, {})


def test_cancel_before_the_first_step_is_said_and_leaves_nothing(begin, tmp_path, caplog):
    class Cancelled(BaseException):
        pass

    policy = ToyPolicy(toy_config().lora)

    def cancel(prompt):
        raise Cancelled

    policy.encode = cancel
    with pytest.raises(Cancelled), caplog.at_level("WARNING"):
        begin(policy=policy)
    assert "Pave-GRPO ended before its first step: there is nothing to keep" in caplog.text
    assert list(tmp_path.glob("*/*")) == []
