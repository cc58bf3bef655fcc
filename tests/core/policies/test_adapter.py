"""Adapter, advantages, settings, prompts, checkpoints, rewards and the run's folder."""

import json
import math
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from scipy import stats

from pave_core.config.adapter import LoraConfig
from pave_core.config.fields import parse_int_set, parse_segments
from pave_core.config.objective import PaveConfig
from pave_core.config.optimizer import OptimConfig
from pave_core.config.presets import PRESETS
from pave_core.config.rollout import RolloutConfig
from pave_core.config.train import RunConfig, TrainConfig
from pave_core.errors import ConfigError, TrainingError
from pave_core.evaluation.evaluate import evaluate
from pave_core.evaluation.gain import paired_gain, summarise
from pave_core.flow.schedule import check_sigmas, shifted_sigmas
from pave_core.images import picture
from pave_core.objective.advantage import compute_advantages
from pave_core.pictures.curve import reward_curve
from pave_core.pictures.sheets import before_after_grid
from pave_core.policies.adapter import LoraAdapter
from pave_core.policies.lora_file import RECIPE_KEY, LoraWeights, save_lora
from pave_core.policies.targets import find_targets
from pave_core.rewards.colour import ColourReward
from pave_core.rollout.prompts import parse_prompts, split_prompts
from pave_core.runs.checkpoint import load_checkpoint, save_checkpoint
from pave_core.runs.folder import RunFolder
from pave_core.runs.recipe import check_recipe
from pave_core.scoring.groups import zero_spread
from pave_core.scoring.mix import RewardMix, Scores
from pave_core.scoring.score import score
from pave_core.seeds import seeded
from pave_core.training.optimizer import learning_rate

# adapter


def probe(policy):
    return policy.model(torch.ones(2, 3, 4, 4), torch.tensor([0.5, 0.9]), torch.ones(8))


@pytest.mark.parametrize("init", ["gaussian", "kaiming"])
def test_a_fresh_adapter_changes_no_bit(toy, init):
    policy = toy.Policy(LoraConfig(rank=4, init=init))
    fresh = probe(policy)
    policy.adapter.detach()
    assert torch.equal(fresh, probe(policy))


def test_detach_leaves_no_trace_and_attach_brings_the_adapter_back(toy):
    policy = toy.Policy(LoraConfig(rank=4))
    modules = {name: type(m) for name, m in toy.Policy(LoraConfig()).model.named_modules()}
    for p in policy.parameters().values():
        torch.nn.init.normal_(p, generator=seeded(1))
    trained = probe(policy)
    with policy.reference():
        reference = probe(policy)
    policy.adapter.detach()
    plain = probe(policy)
    assert not any("lora" in name for name, _ in policy.model.named_modules())
    policy.adapter.attach()
    assert {name: type(m) for name, m in policy.model.named_modules()} == modules
    assert torch.equal(probe(policy), trained)
    assert torch.equal(reference, plain)
    assert not torch.equal(trained, plain)


def test_the_exported_weights_are_the_adapter(toy):
    policy = toy.Policy(LoraConfig(rank=4, alpha=6))
    for p in policy.parameters().values():
        torch.nn.init.normal_(p, generator=seeded(1))
    trained, exported = probe(policy), policy.adapter.export(prefix="model.")
    policy.adapter.detach()
    with torch.no_grad():
        for name in ("attn.qkv", "attn.proj"):
            scale = exported[f"model.{name}.alpha"].item() / 4
            layer = policy.model.get_submodule(name)
            layer.weight += scale * exported[f"model.{name}.lora_B.weight"] @ exported[f"model.{name}.lora_A.weight"]
    torch.testing.assert_close(probe(policy), trained)


def test_the_adapter_does_not_touch_the_global_random_state():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    before = torch.random.get_rng_state()
    LoraAdapter(model, LoraConfig(targets="all linear"), seeded(0), torch.device("cpu"))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_base_is_frozen(toy):
    policy = toy.Policy(LoraConfig())
    trainable = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert len(trainable) == len(policy.parameters())
    assert all("lora" in name for name in trainable)


class Block(torch.nn.Module):
    """Layer names as host models have them."""

    def __init__(self, *names):
        super().__init__()
        for name in names:
            module = self
            *path, leaf = name.split(".")
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, torch.nn.Module())
                module = getattr(module, part)
            module.add_module(leaf, torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("names", "attention", "mlp"),
    [
        (["x_block.attn.qkv", "x_block.attn.proj", "x_block.mlp.fc1", "x_block.adaLN_modulation.1", "final.linear"], 2, 3),  # SD3
        (["b.img_attn.qkv", "b.txt_attn.proj", "b.img_mlp.0", "b.img_mod.lin", "s.linear1", "s.modulation.lin"], 3, 4),  # FLUX
        (["t.attn.to_q", "t.attn.to_out.0", "t.img_mlp.net.0.proj", "t.img_mod.1", "img_in"], 2, 3),  # Qwen-Image
        (["l.attention.qkv", "l.feed_forward.w1", "l.adaLN_modulation.0"], 1, 2),  # Lumina 2, Z-Image
        (["b.self_attn.q", "b.cross_attn.k", "b.ffn.0", "time_embedding.0"], 2, 3),  # Wan
    ],
)
def test_targets_find_the_layers_of_the_hosts_models(names, attention, mlp):
    model = Block(*names)
    assert len(find_targets(model, "attention")) == attention
    assert len(find_targets(model, "attention + MLP")) == mlp
    assert len(find_targets(model, "all linear")) == len(names)


def test_targets_that_match_nothing_are_an_error():
    with pytest.raises(ConfigError, match="targets: 'attention' matches no layer.*all linear"):
        find_targets(Block("a.b"), "attention")


def test_a_linear_that_is_no_nn_linear_gets_an_adapter(toy):
    """The host's quantised Linear is an nn.Module of that name."""

    class Linear(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.in_features, self.out_features = 4, 6
            self.weight, self.bias = torch.nn.Parameter(torch.ones(6, 4)), None

        def forward(self, x):
            return x @ self.weight.T

    model = torch.nn.Sequential()
    model.add_module("attn", Linear())
    adapter = LoraAdapter(model, LoraConfig(rank=2), seeded(0), torch.device("cpu"))
    model(torch.ones(1, 4)).sum().backward()
    assert adapter.parameters()["attn.lora_B.weight"].grad is not None


# advantages


def test_advantages_are_z_scores_clamped():
    rewards = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    rewards[1, 3] = 50
    expected = torch.from_numpy(stats.zscore(rewards.numpy(), axis=1, ddof=1)).clamp(-2.5, 2.5)
    torch.testing.assert_close(compute_advantages(rewards, 2.5), expected, atol=1e-5, rtol=1e-5)


def test_a_group_without_spread_has_no_advantage():
    rewards = torch.tensor([[0.1, 0.1, 0.1], [0.0, 0.5, 1.0]])
    assert zero_spread(rewards).tolist() == [True, False]
    assert compute_advantages(rewards, 5)[0].tolist() == [0.0, 0.0, 0.0]


def test_images_without_a_score_are_left_out_of_their_group():
    nan = float("nan")
    rewards = torch.tensor([[1.0, nan, 3.0, 5.0], [nan, nan, 2.0, nan], [2.0, 2.0, nan, 2.0]])
    advantages = compute_advantages(rewards, 5)
    torch.testing.assert_close(advantages[0, [0, 2, 3]], compute_advantages(torch.tensor([[1.0, 3.0, 5.0]]), 5)[0])
    assert advantages[0, 1] == 0
    assert advantages[1:].abs().max() == 0
    assert zero_spread(rewards).tolist() == [False, True, True]


def test_only_a_reward_that_may_abstain_may_leave_images_without_a_score():
    class Judge:
        name = "judge"
        may_abstain = True

        def __call__(self, images, prompts):
            return torch.tensor([1.0, float("nan")])

    images = torch.zeros(2, 4, 4, 3)
    assert score(Judge(), images, ["", ""]).isnan().tolist() == [False, True]
    mixed = RewardMix((Judge(),), (1.0,))
    assert mixed.may_abstain
    assert mixed(images, ["", ""]).isnan().tolist() == [False, True]
    Judge.may_abstain = False
    with pytest.raises(TrainingError, match="reward judge: returned nan for 1 of 2 images"):
        score(Judge(), images, ["", ""])


@pytest.mark.parametrize(
    ("images", "prompts", "message"),
    [
        (torch.zeros(2, 4, 4, 4), 2, "4 channels instead of 3: take the transparency off"),
        (torch.zeros(2, 4, 4, 1), 2, "1 channels instead of 3"),
        (torch.zeros(4, 4, 3), 4, r"a tensor of shape \(4, 4, 3\)"),
        (torch.zeros(0, 4, 4, 3), 0, "at least one"),
        (torch.full((2, 4, 4, 3), 255.0), 2, "values from 255 to 255: .* divide 8-bit values by 255"),
        (torch.full((2, 4, 4, 3), -1.0), 2, "values from -1 to -1"),
        (torch.full((2, 4, 4, 3), float("nan")), 2, "values from nan to nan"),
        (torch.zeros(2, 4, 4, 3), 3, "prompts: reward brightness was given 3 for 2 images"),
    ],
)
def test_what_is_no_image_is_refused_before_the_reward_sees_it(toy, images, prompts, message):
    with pytest.raises(ConfigError, match=message):
        score(toy.Brightness(), images, [""] * prompts)


def test_a_mix_within_the_group_does_not_depend_on_scales():
    values = {"brightness": torch.rand(2, 4, generator=seeded(0)), "redness": torch.rand(2, 4, generator=seeded(1))}
    mix = Scores(values, (1.0, 0.5))
    scaled = Scores(values | {"redness": values["redness"] * 1000 + 3}, (1.0, 0.5))
    torch.testing.assert_close(mix.advantages(5), scaled.advantages(5), atol=1e-4, rtol=1e-4)
    raw = Scores(values, (1.0, 0.5), "raw")
    torch.testing.assert_close(raw.advantages(5), compute_advantages(values["brightness"] + 0.5 * values["redness"], 5))


def test_a_mix_of_one_is_that_reward(toy):
    images = torch.rand(12, 2, 2, 3, generator=seeded(0))
    scores = RewardMix.of(toy.Brightness()).score(images, [""] * 12)
    assert torch.equal(scores.view(2, 6).advantages(5), compute_advantages(toy.Brightness()(images, [""] * 12).view(2, 6), 5))


def test_a_mix_is_a_reward(toy):
    """For a judge, and within another mix; two rewards of one kind with other settings are told apart."""
    images = torch.rand(5, 2, 2, 3, generator=seeded(0))
    inner = RewardMix((ColourReward(1, 0, 0), ColourReward(0, 0, 1)), (1.0, -2.0))
    scores = inner.score(images, [""] * 5)
    assert list(scores.values) == ["colour", "colour 2"]
    torch.testing.assert_close(inner(images, [""] * 5), ColourReward(1, 0, 0)(images, []) - 2 * ColourReward(0, 0, 1)(images, []))
    outer = RewardMix((inner, toy.Brightness()), (0.5, 1.0))
    torch.testing.assert_close(outer.score(images, [""] * 5).total(), 0.5 * scores.total() + toy.Brightness()(images, [""] * 5))
    assert outer.name == "colour + colour 2 + brightness"


# settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RolloutConfig(group_size=1), "group_size: 1 is below 2"),
        (lambda: RolloutConfig(steps=4, branch_steps=(0, 4)), r"branch_steps: 4 is outside \[0, 4\): lower it or raise steps"),
        (lambda: RolloutConfig(branch_steps=(-1,)), "branch_steps: -1 is outside"),
        (lambda: RolloutConfig(steps=4, branch_steps=(3,)), "branch_steps: 3 is the last of 4 steps"),
        (lambda: RolloutConfig(branch_steps=()), "branch_steps: empty"),
        (lambda: RolloutConfig(branch_steps=(1, 1)), "branch_steps: 1, 1 repeats"),
        (lambda: RolloutConfig(eta=0), "eta: 0 is not a positive number"),
        (lambda: RolloutConfig(eta=-0.5), "eta: -0.5 is not"),
        (lambda: RolloutConfig(eta=math.nan), "eta: nan is not"),
        (lambda: PaveConfig(segments=(1,)), "segments: 1 is below 2"),
        (lambda: PaveConfig(segments=(2, 2)), "segments: 2, 2 repeats"),
        (lambda: PaveConfig(advantage_clip=0), "advantage_clip: 0"),
        (lambda: LoraConfig(rank=0), "rank: 0 is below 1"),
        (lambda: LoraConfig(targets="everything"), "targets: 'everything' is not known"),  # pyright: ignore
        (lambda: OptimConfig(learning_rate=0), "learning_rate: 0"),
        (lambda: OptimConfig(step="sometimes"), "optimizer_step: 'sometimes'"),  # pyright: ignore
        (lambda: OptimConfig(optimizer="Adagrad"), "optimizer: 'Adagrad' is not known"),  # pyright: ignore
        (lambda: OptimConfig(schedule="sine"), "schedule: 'sine' is not known"),  # pyright: ignore
        (lambda: OptimConfig(schedule="cosine", decay_steps=0), "decay_steps: 0 is not above warmup_steps 0"),
        (lambda: OptimConfig(schedule="linear", warmup_steps=5, decay_steps=5), "decay_steps: 5 is not above warmup_steps 5"),
        (
            lambda: TrainConfig(optim=OptimConfig(schedule="cosine", decay_steps=20), run=RunConfig(iterations=21)),
            "decay_steps: 20 is below the 21 optimizer steps",
        ),
        (
            lambda: TrainConfig(optim=OptimConfig(schedule="cosine", decay_steps=79, step="per_step"), run=RunConfig(iterations=20)),
            "decay_steps: 79 is below the 80 optimizer steps",
        ),
        (lambda: PaveConfig(segment_weights=(1.0,)), "segment_weights: 1 for 2 segments"),
        (lambda: PaveConfig(segment_weights=(1.0, -1.0)), "segment_weights: -1.0 is below 0"),
        (lambda: PaveConfig(plain_weight=math.nan), "plain_weight: nan is below 0"),
        (lambda: PaveConfig(plain_weight=0, segment_weights=(0, 0)), "plain_weight: all terms of the loss have weight 0"),
        (lambda: parse_segments("2, 3", "1, x"), "segment_weights: '1, x' is not a list of numbers"),
        (lambda: parse_segments("2, 3", "1"), "segment_weights: 1 for 2 segments"),
        (lambda: parse_segments("2, x", ""), "segments: 'x' is not a list of whole numbers"),
        (lambda: RunConfig(iterations=0), "iterations: 0 is below 1"),
        (lambda: TrainConfig.from_dict({"rollout": {"stepz": 3}}), "config.rollout.stepz: not a known setting"),
        (lambda: parse_int_set("segments", "2, x"), "segments: '2, x' is not a list of whole numbers"),
        (lambda: check_sigmas([1, 0.5, 0.5, 0], 3), "sigmas: .* do not fall strictly"),
        (lambda: check_sigmas([14.6, 1.0, 0], 2), "sigmas: 14.6"),
        (lambda: split_prompts([], 0.2, 0), "prompts: there are none"),
        (lambda: split_prompts(["a"], 1.0, 0), "held_out: 1.0 is outside"),
        (lambda: ColourReward(2, 0, 0), "red: 2 is outside"),
        (lambda: RewardMix((), ()), "weights: 0 for 0 rewards"),
        (lambda: RewardMix((ColourReward(1, 0, 0), ColourReward(1, 0, 0)), (1, 1)), "reward: 'colour' is in the mix 2 times"),
        (lambda: RewardMix((ColourReward(1, 0, 0),), (0.0,)), "weights: all are 0"),
    ],
)
def test_bad_settings_name_the_field_and_the_value(make, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        make()


@pytest.mark.parametrize("name", PRESETS)
def test_settings_survive_json(name):
    assert TrainConfig.from_dict(json.loads(json.dumps(PRESETS[name].to_dict()))) == PRESETS[name]


def test_the_paper_preset_is_the_released_run():
    paper = PRESETS["paper"]
    assert (paper.rollout.steps, paper.rollout.branch_steps, paper.rollout.group_size, paper.rollout.eta) == (16, (0, 2, 4, 6), 12, 0.8)
    assert (paper.pave.segments, paper.pave.advantage_clip, paper.run.iterations) == ((2, 3), 5.0, 300)
    assert (paper.lora.rank, paper.lora.alpha, paper.lora.init) == (64, 128, "gaussian")
    assert (paper.optim.learning_rate, paper.optim.betas, paper.optim.weight_decay, paper.optim.max_grad_norm) == (1e-4, (0.9, 0.999), 1e-4, 1.0)


def test_warm_up_rises_to_the_rate():
    config = OptimConfig(learning_rate=1.0, warmup_steps=3)
    assert [learning_rate(config, step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("warmup", [0, 2])
def test_cosine_and_linear_fall_to_zero_at_decay_steps(warmup):
    """Against torch's own schedulers, shifted by the warm-up."""
    from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

    for name, make in (("cosine", lambda o, n: CosineAnnealingLR(o, n)), ("linear", lambda o, n: LinearLR(o, 1.0, 0.0, n))):
        config = OptimConfig(learning_rate=0.4, schedule=name, warmup_steps=warmup, decay_steps=10)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
        scheduler = make(optimizer, 10 - warmup)
        expected = []
        for _ in range(10 - warmup):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert [learning_rate(config, step) for step in range(warmup, 10)] == pytest.approx(expected, abs=1e-12)
        assert learning_rate(config, 10) == learning_rate(config, 99) == 0.0


def test_segments_keep_the_weight_written_at_their_place():
    assert parse_segments("3, 2", "0.5, 1") == ((2, 3), (1.0, 0.5))
    assert parse_segments("3 2", "") == ((2, 3), ())
    assert parse_segments("", "") == ((), ())
    assert PaveConfig(segments=(2, 3), plain_weight=0.5, segment_weights=(1.0, 0.25)).weights() == {1: 0.5, 2: 1.0, 3: 0.25}


def test_the_shifted_grid():
    grid = shifted_sigmas(4, 3.0)
    assert grid == pytest.approx((1.0, 0.9, 0.75, 0.5, 0.0))
    assert shifted_sigmas(2, 1.0) == (1.0, 0.5, 0.0)


# prompts


def test_prompts_skip_comments_and_blank_lines():
    assert parse_prompts("\n# comment\n a cat \n\na dog\na cat\n") == ["a cat", "a dog"]


def test_the_held_out_part_is_fixed_by_the_seed_and_never_everything():
    prompts = [f"p{i}" for i in range(10)]
    split = split_prompts(prompts, 0.2, 1)
    assert split == split_prompts(prompts, 0.2, 1)
    assert len(split.held_out) == 2
    assert sorted(split.train + split.held_out) == sorted(prompts)
    assert split_prompts(["a", "b"], 0.9, 0).train
    assert split_prompts(["a"], 0.5, 0).evaluated == ("a",)


# checkpoints


def test_a_checkpoint_of_another_recipe_names_the_setting():
    saved = {"config": {"rollout": {"eta": 0.8}, "run": {"iterations": 5}}, "model": "a"}
    check_recipe(saved, {"config": {"rollout": {"eta": 0.8}, "run": {"iterations": 9}}, "model": "a"})
    with pytest.raises(ConfigError, match=r"config.rollout.eta: the checkpoint was made with 0.8, now it is 0.7"):
        check_recipe(saved, {"config": {"rollout": {"eta": 0.7}, "run": {"iterations": 5}}, "model": "a"})
    with pytest.raises(ConfigError, match="model: .* another base model"):
        check_recipe(saved, saved | {"model": "b"})


@pytest.mark.parametrize("content", [b"", b"garbage", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_damaged_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^resume: .*checkpoint.safetensors"):
        load_checkpoint(tmp_path / "checkpoint.safetensors")


def test_a_full_disk_leaves_the_old_checkpoint(toy, tmp_path, root):
    """A real failure of the system's write: the process may not write files above 4 KiB."""
    path = tmp_path / "checkpoint.safetensors"
    run = toy(toy.config(iterations=1))
    list(run.stream())
    save_checkpoint(path, run.state.capture({"n": 1}))
    old = path.read_bytes()
    assert len(old) > 4096
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(root / "tools")!r})
from _host.package import load_core
load_core()
from pathlib import Path
from pave_core.runs.checkpoint import load_checkpoint, save_checkpoint
from pave_core.errors import TrainingError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
checkpoint = load_checkpoint(Path({str(path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_checkpoint(Path({str(path)!r}), checkpoint)
except TrainingError as error:
    print(error)
"""
    if sys.platform == "win32":
        pytest.skip("no file size limit to set here")
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "what was there before is intact" in said
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# the run's folder and its pictures


def test_folders_are_numbered_and_names_checked(tmp_path):
    assert [RunFolder.new(tmp_path, "run").name for _ in range(2)] == ["run_00001", "run_00002"]
    for bad in ("../x", "a/b", "", "..", "C:\\x", "x" * 101, "a\x00b"):
        with pytest.raises(ConfigError, match="run_name: "):
            RunFolder.new(tmp_path, bad)
        with pytest.raises(ConfigError, match="resume: "):
            RunFolder.existing(tmp_path, bad)
    with pytest.raises(ConfigError, match="resume: 'run_00001' has no checkpoint"):
        RunFolder.existing(tmp_path, "run_00001")


def test_metrics_are_logged_and_rewound(toy, tmp_path):
    folder = RunFolder.new(tmp_path, "run")
    for metrics in toy().stream():
        folder.log(metrics)
    folder.close()
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "torn')
    assert [record["step"] for record in folder.rewind(2)] == [1, 2]
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert {"step", "loss", "reward_mean", "reward_std", "grad_norm", "seconds"} <= json.loads(lines[0]).keys()

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder.path))
    events.Reload()
    assert len(events.Scalars("reward_mean")) == 4


def test_pictures(toy, artifacts):
    run = toy(toy.config(iterations=12), RewardMix((toy.Brightness(), toy.Redness()), (1.0, 1.0)))
    seeds = (1, 2, 3, 4)
    arguments = (run.policy, run.decoder, run.reward, toy.Brightness(), None, run.conds, seeds, run.config.rollout)
    before = evaluate(*arguments)
    history = [m.to_dict() for m in run.stream()]
    after = evaluate(*arguments)
    assert len(before.prompts) == 12
    curve, grid = reward_curve(history, {0: before, 12: after}), before_after_grid(before, after)
    for name, image in (("curve", curve), ("grid", grid)):
        assert image.shape[-1] == 3
        assert image.std() > 0.05
        picture(image).save(artifacts / f"core_{name}.png")
    figures = summarise(before, after)
    oracle = stats.ttest_rel(after.total.numpy(), before.total.numpy())
    gain, error = paired_gain(before.total, after.total)
    assert gain / error == pytest.approx(oracle.statistic, rel=1e-4)
    assert figures["reward_se"] == error


def test_a_lora_file_carries_its_recipe(tmp_path):
    weights = LoraWeights({"diffusion_model.a.alpha": torch.tensor(2.0)}, {"config": TrainConfig().to_dict(), "step": 3})
    save_lora(tmp_path / "x" / "y.safetensors", weights)
    with safe_open(tmp_path / "x" / "y.safetensors", "pt") as file:
        assert json.loads(file.metadata()[RECIPE_KEY])["step"] == 3


def test_a_lora_that_can_not_be_written_is_an_error(tmp_path):
    (tmp_path / "y.safetensors").mkdir()
    with pytest.raises(TrainingError, match="could not write"):
        save_lora(tmp_path / "y.safetensors", {"a": torch.ones(1)})
