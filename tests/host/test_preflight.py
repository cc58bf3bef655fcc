"""The preflight: what it predicts, against what autograd keeps and what is allocated; and what follows from it."""

import re
from typing import Any

import pytest
import torch

import _tiny_architectures
from _training_graphs import node

PROMPT = "a red circle on a dark background"
ARCHITECTURES = ("bundled", "FLUX dev", "AuraFlow", "Lumina 2", "Wan 2.1", "Qwen-Image")
SIZES = (192, 320, 512)
"""Pixels; none of those at which the preflight measures."""


def parts_of(name, stock) -> Any:
    """MODEL, CLIP and VAE; "bundled" is of the class of SD3.5."""
    return (stock.model, stock.clip, stock.vae) if name == "bundled" else _tiny_architectures.build(name)


def policy_of(modules, parts, size, checkpointing="auto", **memory):
    lora = modules.config.LoraConfig(rank=4, alpha=8, targets="attention + MLP")
    settings = modules.policy.PolicySettings(*parts, lora)
    memory = modules.config.MemoryConfig(checkpointing=checkpointing, **memory)
    return modules.native.NativePolicy(settings, modules.policy.Picture(size, size), memory=memory)


def velocity(policy, n=1):
    """A call of n latents."""
    cond = policy.encode(PROMPT)
    x = torch.randn(n, *policy.latent_shape, generator=torch.Generator().manual_seed(0))
    return policy.velocity(x, torch.full((n,), 0.8), [cond] * n)


def kept(policy) -> int:
    """The bytes that autograd keeps of one velocity, counted here: each memory once, without the weights."""
    tensors = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: tensors.append(t) or t, lambda t: t):
        result = velocity(policy)
    model = policy._patcher.model.diffusion_model
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    assert result.requires_grad
    return sum(size for address, size in storages.items() if address not in own)


def measured(policy):
    """The Evaluation of a policy in use."""
    policy.sigmas(4)
    return policy.measure(policy.encode(PROMPT))[0]


def area(policy):
    return policy.latent_shape[-1] * policy.latent_shape[-2]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_activations_of_other_sizes_are_predicted(modules, stock, name):
    parts = parts_of(name, stock)
    with policy_of(modules, parts, 64) as policy:
        evaluation = measured(policy)
    print("\n| model | pixels | checkpointing | MB kept | MB predicted | error |")
    worst = 0.0
    for checkpointing, growth in (("on", evaluation.checkpointed), ("off", evaluation.plain)):
        for size in SIZES:
            with policy_of(modules, parts, size, checkpointing) as policy:
                policy.sigmas(4)
                found, predicted = kept(policy), growth.at(area(policy))
            error = predicted / found - 1
            megabytes = f"{found / 2**20:.2f} | {predicted / 2**20:.2f}"
            print(f"| {name} | {size} | {checkpointing} | {megabytes} | {error:+.1%} |")
            worst = max(worst, abs(error))
    assert worst < 0.2
    assert evaluation.checkpointed.at(4096) < 0.3 * evaluation.plain.at(4096)


def peak(compute) -> int:
    """The most bytes that were allocated at once, by torch's own profiler."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        compute()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    total = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        most = max(most, total)
    return most


@pytest.mark.parametrize("checkpointing", ["on", "off"])
@pytest.mark.parametrize("name", ["bundled", "FLUX dev", "Wan 2.1"])
def test_the_peaks_of_a_call_are_predicted(modules, stock, name, checkpointing):
    """Of a call without gradient, and of one with: the kept and the working set; within a third."""
    blocks = modules.needs.Measured
    with policy_of(modules, parts_of(name, stock), 320, checkpointing) as policy:
        evaluation = measured(policy)
        block = evaluation.block.at(area(policy))
        with torch.no_grad():
            velocity(policy)
            forward = peak(lambda: velocity(policy, 3))
        found = peak(lambda: velocity(policy).sum().backward())
        growth = evaluation.checkpointed if checkpointing == "on" else evaluation.plain
        predicted = growth.at(area(policy)) + (blocks.backward_blocks - (checkpointing == "off")) * block
    without = 3 * blocks.forward_blocks * block
    print(f"\n{name}, {checkpointing}: forward {without / forward:.2f}, with gradient {predicted / found:.2f}")
    assert 0.75 < without / forward < 1.5
    assert 0.75 < predicted / found < 1.5


def test_the_measurement_changes_nothing(modules, stock):
    with policy_of(modules, parts_of("bundled", stock), 64, "off", recompute_chains=True) as policy:
        policy.sigmas(4)
        before = velocity(policy)
        memory = policy._memory
        for p in policy.parameters().values():
            p.grad = torch.ones_like(p)
        policy.measure(policy.encode(PROMPT))
        assert policy._memory is memory
        assert all(bool((p.grad == 1).all()) for p in policy.parameters().values())
        assert torch.equal(velocity(policy), before)
        assert policy._require_network().lists() == []


def settings_of(modules, stock, step="per_step", **memory):
    """(PolicySettings, RolloutSettings, TrainConfig) of the bundled model, where the update takes the most.

    Unless `step` is "accumulated", the update takes one branch step at a time.
    """
    config = modules.config.TrainConfig(
        rollout=modules.config.RolloutConfig(steps=4, branch_steps=(0, 1), group_size=3),
        lora=modules.config.LoraConfig(rank=4, alpha=8, targets="attention + MLP"),
        optim=modules.config.OptimConfig(step=step),
        memory=modules.config.MemoryConfig(**memory),
    )
    policy = modules.policy.PolicySettings(*parts_of("bundled", stock), config.lora)
    return policy, modules.policy.RolloutSettings(config.rollout, modules.policy.Picture(256, 256)), config


@pytest.fixture
def check(modules, stock):
    """check(card in GB, ...) -> the Preflight of the bundled model on that card."""

    def checked(card=0.0, reward=None, step="per_step", held_out=0, evaluate_every=0, **memory):
        policy, rollout, config = settings_of(modules, stock, step, **memory)
        of_run = {"config": config, "prompt": PROMPT, "held_out": held_out, "evaluate_every": evaluate_every}
        return modules.preflight.check(policy, rollout, reward=reward, card=card, **of_run)

    return checked


def test_what_is_counted_is_there(check, modules, stock):
    weights = modules.tiny.OPEN_CLIP_MODEL
    reward = modules.clip_score.CLIPScore(weights, modules.folders.clip_config(weights))
    phases = check(reward=modules.mix.RewardMix.of(reward)).needs.phases
    assert phases["rollout"]["weights"] == phases["update"]["weights"] == stock.model.model_size()
    assert phases["encode"]["text encoder"] == stock.clip.patcher.model_size()
    assert phases["decode"]["VAE"] == stock.vae.patcher.model_size()
    network = sum(4 * p.numel() for p in reward._clip._network.state_dict().values())
    assert phases["reward"]["reward"] == pytest.approx(network, rel=1e-4)
    policy, rollout, _ = settings_of(modules, stock)
    with modules.native.NativePolicy(policy, rollout.picture) as native:
        adapter = sum(p.numel() for p in native.parameters().values())
    assert phases["update"]["adapter"] == 4 * 4 * adapter  # values, gradient and AdamW's two moments
    images = 2 * 3
    assert phases["update"]["latents"] == (3 * images + 2 + 2) * 16 * 32 * 32 * 4


def test_auto_checkpoints_where_it_must(check):
    plain = check()
    assert not plain.needs.checkpointing
    assert plain.fits
    assert plain.changes == []
    room = plain.needs.peak("update") / 2**30
    assert not check(1.001 * room).needs.checkpointing
    tight = check(0.9 * room, decode_batch=1)
    assert tight.needs.checkpointing
    assert tight.fits
    assert tight.needs.peak("update") < 0.9 * plain.needs.peak("update")
    assert not check(0.9 * room, checkpointing="off").needs.checkpointing


def test_the_update_takes_as_many_branch_steps_at_once_as_fit(check):
    one, both = check(step="per_step").needs, check(step="accumulated").needs
    assert (one.states, one.update_batch) == (2, 1)
    assert (both.states, both.update_batch) == (2, 2)
    assert both.peak("update") > 1.5 * one.peak("update")
    assert check(1.02 * one.peak("update") / 2**30, step="accumulated", checkpointing="off").needs.update_batch == 1


@pytest.mark.parametrize("checkpointing", ["on", "off"])
@pytest.mark.parametrize("states", [1, 3])
def test_the_peak_of_an_update_of_several_branch_steps_is_predicted(modules, stock, checkpointing, states):
    """Of the chains of `states` states, with their backward: the kept and the working set; within a third."""
    policy, rollout, config = settings_of(modules, stock, "accumulated", checkpointing=checkpointing)
    gradient = modules.module("pave_core.training.gradient")
    with modules.native.NativePolicy(policy, rollout.picture, memory=config.memory) as native:
        sigmas, cond = native.sigmas(4), native.encode(PROMPT)
        evaluation = measured(native)
        case = modules.needs.Case(config, native.latent_shape)
        x, y = (torch.randn(states, *native.latent_shape, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
        advantages = torch.tensor([[1.0, -1.0]])
        observed = [
            gradient.Observed(x[i : i + 1], 1, cond, torch.stack([y[i], -y[i]])[None], advantages, 1.0)
            for i in range(states)
        ]
        state = modules.state.TrainState.begin(native, config)
        batches = modules.batches.Batches(states)
        of = gradient.PolicyGradient(native, state, config=config, sigmas=sigmas, batches=batches)
        of.add(observed[:1])  # the parameters have their gradients
        found = peak(lambda: of.add(observed))
        block = evaluation.block.at(case.area)
        growth = evaluation.checkpointed if checkpointing == "on" else evaluation.plain
        working = (modules.needs.Measured.backward_blocks - (checkpointing == "off")) * block * case.work.widest
        predicted = states * (growth.at(case.area) * case.work.evaluations + working)
    print(f"\n{states} states, {checkpointing}: predicted / found {predicted / found:.2f}")
    assert 0.75 < predicted / found < 1.5


def test_what_does_not_fit_is_said_with_the_settings_that_would(check):
    never = check(1e-5)
    assert not never.fits
    assert "This run does not fit" in never.text()
    assert "whatever the settings" in never.line
    plain = check(checkpointing="off").needs
    room = plain.room + 0.3 * plain.phases["update"]["weights"]
    slow = check(room / 2**30, checkpointing="off", decode_batch=1)
    assert slow.fits
    assert slow.needs.offloaded == pytest.approx(0.7, abs=0.01)
    assert slow.changes == ["checkpointing on"]
    assert "to keep the model on the card: checkpointing on" in slow.line
    less = check(0.7 * plain.room / 2**30, checkpointing="off", decode_batch=1)
    assert less.needs.too_large == ["update"]
    assert less.changes
    assert less.changes[0] == "checkpointing on"
    assert "update will not fit: checkpointing on" in less.line


@pytest.mark.parametrize(("share", "checkpointing"), [(2.0, False), (0.9, True)])
def test_the_policy_reckons_with_it(modules, stock, monkeypatch, share, checkpointing):
    """On the device at hand, which has enough or too little for a run without checkpointing."""
    policy, rollout, config = settings_of(modules, stock)
    parts = {"config": config, "reward": None}
    needed = modules.preflight.check(policy, rollout, **parts, prompt=PROMPT, card=0.0).needs.peak("update")
    monkeypatch.setattr(modules.preflight, "budget_of", lambda _: share * needed)
    with modules.native.NativePolicy(policy, rollout.picture, memory=config.memory) as native:
        native.sigmas(4)
        cond = native.encode(PROMPT)
        found = modules.preflight.preflight(native, cond, **parts, settings=policy, rollout=rollout).needs
        assert found.checkpointing == checkpointing == bool(native._require_network().lists())
        assert native._on_device.room == found.room
        velocity(native).sum().backward()


def test_the_node_says_it(host, pack, execute):
    sampling = {"steps": 4, "branch_steps": "0, 1", "group_size": 3, "eta": 0.8, "batch_size": 4}
    memory = {"checkpointing": "on", "recompute_chains": False, "decode_batch": 2, "offload": 0.0}
    parts = {"model": ["tiny", 0], "clip": ["tiny", 1], "vae": ["tiny", 2], "lora": ["lora", 0]}
    graph = {
        "tiny": node("PaveTinyModel"),
        "lora": node("PaveLoRASettings", rank=4, alpha=8.0, targets="attention", init="gaussian"),
        "policy": node("PavePolicy", **parts, cfg=1.0, negative_prompt="", guidance=3.5),
        "colour": node("PaveColour", red=1.0, green=0.75, blue=0.4, softness=0.5),
        "rollout": node("PaveRolloutSettings", **sampling, width=64, height=64, scheduler="simple"),
        "memory": node("PaveMemory", preset="custom", **memory),
        "check": node(
            "PavePreflight",
            policy=["policy", 0],
            reward=["colour", 0],
            rollout=["rollout", 0],
            memory=["memory", 0],
            card=0.0,
            prompts_per_step=1,
        ),
        "text": node("PreviewAny", source=["check", 0]),
    }
    (text,) = execute(graph, ["text"])["text"]["text"]
    assert text.startswith("**This run fits.**")
    for words in ("| kept for backward |", "Checkpointing is on", "The reward shows no network"):
        assert words in text
    assert re.search(r"\*\*Time: about .* for 300 steps of [^,]*\.\*\* A step: rollout .*, reward .*, update ", text)
    of_run = {"iterations": 40, "evaluation_seeds": 2, "evaluate_every": 15}
    text = "\n".join(f"{PROMPT} {n}" for n in range(6))
    graph["prompts"] = node("PavePrompts", text=text, file="none", held_out=0.3, seed=0)
    graph["check"]["inputs"] |= of_run | {"prompts": ["prompts", 0]}
    (text,) = execute(graph, ["text"])["text"]["text"]
    assert re.search(r"for 40 steps of .* and 4 measurements of ", text)


def test_a_training_begins_with_its_line(modules, stock, caplog):
    policy, rollout, config = settings_of(modules, stock, "accumulated")
    settings = modules.settings.RunSettings(name="preflight", check_reward=False, iterations=300)
    reward = modules.mix.RewardMix.of(modules.colour.ColourReward(1.0, 0.5, 0.0))
    task = modules.settings.Task(config, settings, modules.prompts.PromptSet((PROMPT,), ()), reward)
    with caplog.at_level("INFO"):
        run = modules.train.begin(policy, rollout, task, modules.progress.NodeProgress(None))
    assert run.batches.update.size == 2
    run.stop("enough")
    (line,) = [message for message in caplog.messages if "memory: at most" in message]
    assert "checkpointing off, 2 branch steps at once in the update" in line
    assert [words for words in caplog.messages if re.search("time: about .* for 300 steps of ", words)]


def test_the_time_is_that_of_what_is_connected(check, modules, monkeypatch):
    """The words of its line; and a reward that fails costs only its own time."""
    colour = modules.colour.ColourReward(1.0, 0.5, 0.0)
    assert check().duration.step.keys() == {"rollout", "decode", "update"}
    assert check().duration.line.endswith(", without the reward")
    with_it = check(reward=modules.mix.RewardMix.of(colour))
    assert list(with_it.duration.step) == ["rollout", "decode", "reward", "update"]
    assert "without" not in with_it.duration.line
    assert with_it.duration.measurements(0) == 0
    assert check(reward=colour, held_out=6, evaluate_every=100).duration.measurements(0) == 1 + 3
    other = check(card=100.0)
    assert other.remarks[-1] == "The times are those of this device, not of the other card."

    def fails(self, images, prompts):
        raise modules.errors.TrainingError("the judge does not answer")

    monkeypatch.setattr(type(colour), "__call__", fails)
    failing = check(reward=colour)
    assert failing.duration.step.keys() == {"rollout", "update"}
    assert "The time of decoding and scoring is not known" in failing.remarks[-1]
    assert "the judge does not answer" in failing.text()


def test_a_person_takes_time_that_nobody_knows(check, modules):
    colour = modules.colour.ColourReward(1.0, 0.5, 0.0)
    person = modules.module("pave_core.person.reward").PersonReward(None)
    assert check(reward=person).duration.line.endswith(", without the time that you take to answer")
    both = check(reward=modules.mix.RewardMix((colour, person), (1.0, 1.0))).duration
    assert both.asks
    assert both.step["reward"] > 0
