"""Whole runs on the bundled model: what is kept, cancelled, resumed and refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

PROMPTS = (
    "a red circle on a dark background",
    "a blue star on a light background",
    "a green square on a dark background",
)


@pytest.fixture
def make(modules, stock):
    """make(iterations=..., reward=..., name=..., resume=..., ...) -> run it and return the RunResult.

    `more` are of RunSettings.
    """

    def run(
        iterations=3,
        reward=None,
        judge=None,
        name="test",
        resume="none",
        model=None,
        eta=0.8,
        evaluate_every=0,
        seed=0,
        learning_rate=5e-3,
        **more,
    ):
        config = modules.config.TrainConfig(
            rollout=modules.config.RolloutConfig(steps=3, branch_steps=(0, 1), group_size=3, eta=eta, batch_size=16),
            lora=modules.config.LoraConfig(rank=2, alpha=4),
            optim=modules.config.OptimConfig(learning_rate=learning_rate),
            run=modules.config.RunConfig(iterations=iterations, checkpoint_every=2, seed=seed),
        )
        settings = modules.settings.RunSettings(
            name, resume, evaluation_seeds=2, evaluate_every=evaluate_every, iterations=iterations, **more
        )
        policy = modules.policy.PolicySettings(model or stock.model, stock.clip, stock.vae, config.lora)
        rollout = modules.policy.RolloutSettings(config.rollout, modules.policy.Picture(64, 64))
        prompts = modules.prompts.PromptSet(PROMPTS[:2], PROMPTS[2:])
        mix = modules.mix.RewardMix.of(reward or modules.colour.ColourReward(1.0, 0.5, 0.0))
        task = modules.settings.Task(config, settings, prompts, mix, judge)
        with torch.inference_mode():  # as the host runs nodes
            return modules.train.run_training(policy, rollout, task, None)

    return run


@pytest.fixture
def guard(modules):
    """guard(...) -> a guard whose held-out reward falls as the default reward of `make` rises."""

    def made(**config):
        return modules.guard.GuardSettings(
            modules.guard.GuardConfig(**config), modules.statistics.StatisticReward("contrast", "more")
        )

    return made


@pytest.fixture
def runs(modules):
    return modules.folders.places().runs


def metrics(folder):
    return [
        {k: v for k, v in json.loads(line).items() if k not in ("seconds", "memory")}
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def newest(runs, name):
    return sorted(runs.glob(f"{name}_[0-9]*"))[-1]


def test_a_run_leaves_everything_it_promises(make, runs, stock):
    result = make(name="whole", evaluate_every=2)
    folder = newest(runs, "whole")
    assert {path.name for path in folder.iterdir() if "tfevents" not in path.name} == {
        "metrics.jsonl",
        "evaluations.json",
        "checkpoint.safetensors",
        "checkpoint.previous.safetensors",
        "summary.json",
        "curve.png",
        "grid.png",
        "in_use.lock",
        "measured",
        "group",
    }
    assert list(folder.glob("events.out.tfevents*"))
    evaluations = json.loads((folder / "evaluations.json").read_text())
    assert [each["step"] for each in evaluations] == [0, 2, 3]
    summary = json.loads((folder / "summary.json").read_text())
    assert [evaluations[0]["reward"], evaluations[-1]["reward"]] == [summary["reward_before"], summary["reward_after"]]
    assert [m["step"] for m in metrics(folder)] == [1, 2, 3]
    assert summary["steps"] == 3
    assert summary["held_out_images"] == 2
    assert summary["judge_before"] is None
    assert load_file(summary["lora"]).keys() == result.lora.keys()
    with safe_open(summary["lora"], "pt") as file:
        recipe = json.loads(file.metadata()["pave_recipe"])
    assert recipe["config"]["rollout"]["group_size"] == 3
    assert recipe["prompts"] == list(PROMPTS[:2])
    assert recipe["reward"]["rewards"][0]["green"] == 0.5
    assert len(result.loss_map["loss"]) == 3
    assert result.curve.ndim == result.grid.ndim == 4
    assert "gain" in result.summary
    positive = stock.call("CLIPTextEncode", text=PROMPTS[0], clip=stock.clip)[0]
    assert not torch.equal(stock.sample(result.model, positive, seed=1), stock.sample(stock.model, positive, seed=1))


def test_the_same_seed_gives_the_same_lora_and_another_seed_another(make):
    first, again, other = make(name="a"), make(name="b"), make(name="c", seed=1)
    assert all(torch.equal(first.lora[key], again.lora[key]) for key in first.lora)
    assert not all(torch.equal(first.lora[key], other.lora[key]) for key in first.lora)


class CancelAt:
    """A colour reward during whose n-th call the user presses Cancel."""

    def __init__(self, reward, call):
        self.reward, self.call, self.calls = reward, call, 0
        self.name, self.describe = reward.name, reward.describe

    def __call__(self, images, prompts):
        import comfy.model_management

        self.calls += 1
        if self.calls == self.call:
            comfy.model_management.interrupt_current_processing()
        return self.reward(images, prompts)


def test_cancel_keeps_the_work_and_resume_is_the_uninterrupted_run(make, runs, modules, caplog):
    import comfy.model_management

    colour = modules.colour.ColourReward(1.0, 0.5, 0.0)
    whole = make(iterations=4, reward=colour, name="uninterrupted")
    with caplog.at_level("WARNING"), pytest.raises(comfy.model_management.InterruptProcessingException):
        make(
            iterations=4, reward=CancelAt(colour, 2 + 1 + 2 + 1), name="cancelled"
        )  # two to check the reward, one to evaluate, two a step
    folder = newest(runs, "cancelled")
    lora = modules.folders.places().lora(folder.name)
    assert len(metrics(folder)) == 1
    assert (
        f"cancelled after step 1: LoRA so far in {lora}, checkpoint in {folder / 'checkpoint.safetensors'}"
        in caplog.text
    )
    assert any(v.abs().max() > 0 for k, v in load_file(lora).items() if "lora_B" in k)
    assert folder.name in modules.folders.resumable_runs()

    resumed = make(iterations=4, reward=colour, resume=folder.name)
    assert metrics(folder) == metrics(newest(runs, "uninterrupted"))
    assert all(torch.equal(resumed.lora[key], whole.lora[key]) for key in whole.lora)
    checkpoints = [load_file(path / "checkpoint.safetensors") for path in (folder, newest(runs, "uninterrupted"))]
    assert checkpoints[0].keys() == checkpoints[1].keys()
    assert all(torch.equal(checkpoints[0][key], checkpoints[1][key]) for key in checkpoints[0])


def test_a_failing_reward_keeps_the_work_too(make, runs, modules):
    colour = modules.colour.ColourReward(1.0, 0.5, 0.0)

    class Fails(CancelAt):
        def __call__(self, images, prompts):
            self.calls += 1
            if self.calls == self.call:
                raise OSError("the reward's server is gone")
            return self.reward(images, prompts)

    with pytest.raises(OSError, match="server is gone"):
        make(reward=Fails(colour, 6), name="failed")
    assert modules.checkpoint.load_checkpoint(newest(runs, "failed") / "checkpoint.safetensors").step == 1


def test_resume_of_another_recipe_or_model_is_refused(make, runs, modules, stock):
    make(iterations=2, name="base")
    name = newest(runs, "base").name
    with pytest.raises(
        modules.errors.ConfigError, match=r"config\.rollout\.eta: the checkpoint was made with 0\.8, now it is 0\.5"
    ):
        make(iterations=4, resume=name, eta=0.5)
    with pytest.raises(modules.errors.ConfigError, match=r"^reward\.rewards: the checkpoint was made with .*colour"):
        make(iterations=4, resume=name, reward=modules.colour.ColourReward(0.0, 0.5, 0.0))
    other = SimpleNamespace(
        model=stock.call("UNETLoader", unet_name=modules.tiny.DIFFUSION_MODEL.name, weight_dtype="default")[0]
    )
    with torch.no_grad(), torch.inference_mode():
        next(iter(other.model.model.diffusion_model.parameters())).add_(1.0)
    with pytest.raises(modules.errors.ConfigError, match="^model: .* another base model"):
        make(iterations=4, resume=name, model=other.model)
    with pytest.raises(modules.errors.ConfigError, match="^resume: 'nothing_00001' has no checkpoint"):
        make(resume="nothing_00001")
    assert len(metrics(newest(runs, "base"))) == 2


def test_a_run_that_is_done_gives_everything_again_without_training(make, runs, modules):
    first = make(iterations=2, name="done")
    folder = newest(runs, "done")
    for name in ("summary.json", "curve.png", "grid.png"):
        (folder / name).unlink()
    again = make(iterations=2, resume=folder.name)
    assert again.lora.keys() == first.lora.keys()
    assert all(torch.equal(again.lora[key], first.lora[key]) for key in first.lora)
    assert torch.equal(again.grid, first.grid)
    assert [m["step"] for m in metrics(folder)] == [1, 2]
    assert {"summary.json", "curve.png", "grid.png"} <= {path.name for path in folder.iterdir()}
    patches = [result.model.patches for result in (first, again)]
    assert patches[0].keys() == patches[1].keys() != set()


def test_a_constant_reward_is_refused_before_training(make, runs, modules):
    class Constant:
        name = "constant"

        def __call__(self, images, prompts):
            return torch.full((len(images),), 0.5)

    with pytest.raises(
        modules.errors.ConfigError, match="^reward: it cannot tell your images apart: it gives all images of"
    ):
        make(reward=Constant(), name="constant")
    with pytest.raises(modules.errors.ConfigError, match=r"^reward: constant = 0\.5 for all 2 images"):
        make(reward=Constant(), name="constant", check_reward=False)
    assert not list(runs.glob("constant_*"))


def test_a_guard_stops_the_run_and_its_best_weights_come_out(make, runs, guard, stock):
    result = make(iterations=9, name="guarded", guard=guard(every=1, max_drop=1.2))
    folder = newest(runs, "guarded")
    readings = [json.loads(line) for line in (folder / "guard.jsonl").read_text().splitlines()]
    done = metrics(folder)
    assert len(readings) == len(done) < 9
    assert readings[-1]["alarms"]
    best = max(readings[:-1], key=lambda reading: reading["held_out"])["step"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["guard"]["chosen"] == best < len(done)
    assert summary["guard"]["stopped"] == "; ".join(readings[-1]["alarms"])
    assert f"the LoRA is that of step {best}" in result.summary
    # Oracle: an unguarded run of as many steps ends with the weights that the guard chose.
    plain = make(iterations=best, name="plain")
    assert all(torch.equal(plain.lora[key], result.lora[key]) for key in plain.lora)
    saved = load_file(Path(summary["lora"]))
    assert all(torch.equal(saved[key], result.lora[key]) for key in saved)
    assert (folder / "best.safetensors").is_file()


def test_cancel_keeps_the_best_and_a_guarded_run_resumes_bit_for_bit(make, runs, guard, modules):
    import comfy.model_management

    colour = modules.colour.ColourReward(1.0, 0.5, 0.0)
    arguments = {"iterations": 7, "guard": guard(every=2, max_drop=1.9, action="lower learning rate")}
    whole = make(reward=colour, name="watched", **arguments)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        make(
            reward=CancelAt(colour, 2 + 1 + 4 + 1 + 2 + 1), name="watched_cut", **arguments
        )  # measured after two steps; in the fourth
    folder = newest(runs, "watched_cut")
    assert len(metrics(folder)) == 3
    with safe_open(modules.folders.places().lora(folder.name), "pt") as file:
        assert json.loads(file.metadata()["pave_recipe"])["step"] == 2  # the best so far
    assert modules.checkpoint.load_checkpoint(folder / "checkpoint.safetensors").step == 3
    resumed = make(reward=colour, resume=folder.name, **arguments)
    other = newest(runs, "watched")
    assert metrics(folder) == metrics(other)
    readings = [
        [json.loads(line) for line in (path / "guard.jsonl").read_text().splitlines()] for path in (folder, other)
    ]
    assert readings[0] == readings[1]
    assert any(reading["alarms"] for reading in readings[0])
    assert all(torch.equal(resumed.lora[key], whole.lora[key]) for key in whole.lora)
    checkpoints = [load_file(path / "checkpoint.safetensors") for path in (folder, other)]
    assert all(torch.equal(checkpoints[0][key], checkpoints[1][key]) for key in checkpoints[0])


def test_the_judge_is_measured_and_not_trained_on(make, runs, modules):
    class Judge:
        name = "judge"
        calls = 0

        def __call__(self, images, prompts):
            self.calls += 1
            return images.mean((1, 2, 3))

    judge = Judge()
    judged, unjudged = make(judge=judge, name="judged"), make(name="unjudged")
    assert judge.calls == 2
    summary = json.loads((newest(runs, "judged") / "summary.json").read_text())
    assert 0 < summary["judge_before"] < 1
    assert all(torch.equal(judged.lora[key], unjudged.lora[key]) for key in judged.lora)
