"""Whole runs on the bundled model: what is kept, cancelled, resumed and refused."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

PROMPTS = ("a red circle on a dark background", "a blue star on a light background", "a green square on a dark background")


@pytest.fixture
def make(modules, stock):
    """make(iterations=..., reward=..., name=..., resume=..., **rollout) -> run it and return the RunResult."""

    def run(iterations=3, reward=None, judge=None, name="test", resume=None, model=None, eta=0.8, evaluate_every=0, seed=0, learning_rate=5e-3):
        config = modules.config.TrainConfig(
            rollout=modules.config.RolloutConfig(steps=3, branch_steps=(0, 1), group_size=3, eta=eta, batch_size=16),
            lora=modules.config.LoraConfig(rank=2, alpha=4),
            optim=modules.config.OptimConfig(learning_rate=learning_rate),
            run=modules.config.RunConfig(iterations=iterations, checkpoint_every=2, seed=seed),
        )
        settings = modules.run.RunSettings(name, resume, (1, 2), evaluate_every, iterations)
        policy = modules.policy.PolicySettings(model or stock.model, stock.clip, stock.vae, config.lora)
        rollout = modules.policy.RolloutSettings(config.rollout, 64, 64)
        prompts = modules.prompts.PromptSet(PROMPTS[:2], PROMPTS[2:])
        reward = reward or modules.rewards.colour.ColourReward(1.0, 0.5, 0.0)
        with torch.inference_mode():  # as the host runs nodes
            return modules.run.run_training(policy, rollout, prompts, reward, judge, config, settings, None)

    return run


@pytest.fixture
def runs(modules):
    return modules.folders.runs()


def metrics(folder):
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in (folder / "metrics.jsonl").read_text().splitlines()]


def newest(runs, name):
    return sorted(runs.glob(f"{name}_*"))[-1]


def test_a_run_leaves_everything_it_promises(make, runs, stock):
    result = make(name="whole", evaluate_every=2)
    folder = newest(runs, "whole")
    assert {path.name for path in folder.iterdir() if "tfevents" not in path.name} == {
        "metrics.jsonl",
        "checkpoint.safetensors",
        "summary.json",
        "curve.png",
        "grid.png",
    }
    assert list(folder.glob("events.out.tfevents*"))
    assert [m["step"] for m in metrics(folder)] == [1, 2, 3]
    summary = json.loads((folder / "summary.json").read_text())
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
    assert not torch.equal(stock.sample(result.model, positive, 1), stock.sample(stock.model, positive, 1))


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

    colour = modules.rewards.colour.ColourReward(1.0, 0.5, 0.0)
    whole = make(iterations=4, reward=colour, name="uninterrupted")
    with caplog.at_level("WARNING"), pytest.raises(comfy.model_management.InterruptProcessingException):
        make(iterations=4, reward=CancelAt(colour, 1 + 2 + 1), name="cancelled")  # one call to evaluate, two a step: in the second step
    folder = newest(runs, "cancelled")
    lora = modules.folders.lora_of_run(folder.name)
    assert len(metrics(folder)) == 1
    assert f"cancelled after step 1: LoRA so far in {lora}, checkpoint in {folder / 'checkpoint.safetensors'}" in caplog.text
    assert any(v.abs().max() > 0 for k, v in load_file(lora).items() if "lora_B" in k)
    assert folder.name in modules.folders.resumable_runs()

    resumed = make(iterations=4, reward=colour, resume=folder.name)
    assert metrics(folder) == metrics(newest(runs, "uninterrupted"))
    assert all(torch.equal(resumed.lora[key], whole.lora[key]) for key in whole.lora)
    checkpoints = [load_file(path / "checkpoint.safetensors") for path in (folder, newest(runs, "uninterrupted"))]
    assert checkpoints[0].keys() == checkpoints[1].keys()
    assert all(torch.equal(checkpoints[0][key], checkpoints[1][key]) for key in checkpoints[0])


def test_a_failing_reward_keeps_the_work_too(make, runs, modules):
    colour = modules.rewards.colour.ColourReward(1.0, 0.5, 0.0)

    class Fails(CancelAt):
        def __call__(self, images, prompts):
            self.calls += 1
            if self.calls == self.call:
                raise OSError("the reward's server is gone")
            return self.reward(images, prompts)

    with pytest.raises(OSError, match="server is gone"):
        make(reward=Fails(colour, 4), name="failed")
    assert modules.checkpoint.load_checkpoint(newest(runs, "failed") / "checkpoint.safetensors").step == 1


def test_resume_of_another_recipe_or_model_or_of_a_finished_run_is_refused(make, runs, modules, stock):
    make(iterations=2, name="base")
    name = newest(runs, "base").name
    with pytest.raises(modules.errors.ConfigError, match=r"config\.rollout\.eta: the checkpoint was made with 0\.8, now it is 0\.5"):
        make(iterations=4, resume=name, eta=0.5)
    with pytest.raises(modules.errors.ConfigError, match=r"^reward\.rewards: the checkpoint was made with .*colour"):
        make(iterations=4, resume=name, reward=modules.rewards.colour.ColourReward(0.0, 0.5, 0.0))
    with pytest.raises(modules.errors.ConfigError, match="^iterations: .* has done 2 of 2 already"):
        make(iterations=2, resume=name)
    other = SimpleNamespace(model=stock.call("UNETLoader", unet_name=modules.tiny.DIFFUSION_MODEL.name, weight_dtype="default")[0])
    with torch.no_grad(), torch.inference_mode():
        next(iter(other.model.model.diffusion_model.parameters())).add_(1.0)
    with pytest.raises(modules.errors.ConfigError, match="^model: .* another base model"):
        make(iterations=4, resume=name, model=other.model)
    with pytest.raises(modules.errors.ConfigError, match="^resume: 'nothing_00001' has no checkpoint"):
        make(resume="nothing_00001")
    assert len(metrics(newest(runs, "base"))) == 2


def test_a_constant_reward_is_refused_before_training(make, runs, modules):
    class Constant:
        name = "constant"

        def __call__(self, images, prompts):
            return torch.full((len(images),), 0.5)

    with pytest.raises(modules.errors.ConfigError, match=r"^reward: constant = 0\.5 for all 2 images"):
        make(reward=Constant(), name="constant")
    assert not list(runs.glob("constant_*"))


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


def test_the_bundled_clip_is_open_clips_own_score(modules, stock):
    """Against open_clip's own pipeline: its model from the config, its image transform and its tokenizer."""
    import open_clip
    from PIL import Image

    tiny = modules.tiny
    config = json.loads(tiny.OPEN_CLIP_CONFIG.read_text())
    model = open_clip.CLIP(**config["model_cfg"])
    open_clip.load_checkpoint(model, str(tiny.OPEN_CLIP_MODEL))
    size = config["model_cfg"]["vision_cfg"]["image_size"]
    preprocess = open_clip.image_transform(
        size,
        is_train=False,
        mean=config["preprocess_cfg"]["mean"],
        std=config["preprocess_cfg"]["std"],
        resize_mode=config["preprocess_cfg"]["resize_mode"],
    )
    generator = torch.Generator().manual_seed(0)
    images = (torch.rand(3, size, size, 3, generator=generator) * 255).round() / 255
    pixels = torch.stack([preprocess(Image.fromarray((image * 255).round().byte().numpy())) for image in images])
    tokens = open_clip.SimpleTokenizer(context_length=config["model_cfg"]["text_cfg"]["context_length"])(list(PROMPTS))
    with torch.no_grad():
        expected = (model.eval().encode_image(pixels, normalize=True) * model.encode_text(tokens, normalize=True)).sum(1)
    reward = modules.rewards.clip_score.CLIPScore(tiny.OPEN_CLIP_MODEL, tiny.OPEN_CLIP_CONFIG, torch.device("cpu"))
    torch.testing.assert_close(reward(images, PROMPTS), expected, atol=1e-5, rtol=1e-5)
    one_by_one = torch.cat([reward(images[i : i + 1], PROMPTS[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(one_by_one, expected, atol=1e-5, rtol=1e-5)


def test_files_that_are_no_clip_are_refused(modules, tmp_path):
    tiny, clip = modules.tiny, modules.rewards.clip_score
    cpu = torch.device("cpu")
    for name, content in (
        ("empty.safetensors", b""),
        ("garbage.pt", b"not a model"),
        ("text.safetensors", b"\x10" + b"\x00" * 7 + b"not json at all!"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(modules.errors.ConfigError, match=f"^checkpoint: {name} can not be loaded"):
            clip.CLIPScore(tmp_path / name, tiny.OPEN_CLIP_CONFIG, cpu)
    with pytest.raises(modules.errors.ConfigError, match=r"^checkpoint: vae\.safetensors can not be loaded"):
        clip.CLIPScore(tiny.VAE, tiny.OPEN_CLIP_CONFIG, cpu)
    with pytest.raises(modules.errors.ConfigError, match="^checkpoint: .* does not exist: put an open_clip checkpoint"):
        clip.CLIPScore(tmp_path / "missing.safetensors", tiny.OPEN_CLIP_CONFIG, cpu)
    with pytest.raises(modules.errors.ConfigError, match="^architecture: 'ViT-Z-99' is not an open_clip architecture"):
        clip.CLIPScore(tiny.OPEN_CLIP_MODEL, "ViT-Z-99", cpu)
    with pytest.raises(modules.errors.ConfigError, match=r"^checkpoint: open_clip_model\.safetensors can not be loaded as this CLIP architecture"):
        clip.CLIPScore(tiny.OPEN_CLIP_MODEL, "ViT-B-32", cpu)
    evil = tmp_path / "evil.pt"
    torch.save({"state_dict": {"a": replace}}, evil)  # holds a function: refused by weights_only
    with pytest.raises(modules.errors.ConfigError, match=r"^checkpoint: evil\.pt can not be loaded"):
        clip.CLIPScore(evil, tiny.OPEN_CLIP_CONFIG, cpu)
