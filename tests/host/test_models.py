"""Every flow architecture of the host that runs the tests, as a tiny random model: it samples as the host does, trains
with the right gradient, gives a LoRA that the host loads, and is left as it was.

What is measured goes into a table: printed under -s, and written to docs/MODELS.md by tools/make_models_table.py.
"""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from _gradients import check_gradient
from _host.install import find_comfyui
from _tiny_architectures import ARCHITECTURES, LEFT_OUT, Architecture, Parts, build, build_model, known_to, sampling_of
from make_models_table import COLUMNS, markdown

ROOT = Path(__file__).resolve().parents[2]
HOST = find_comfyui(None, ROOT) or ROOT / ".pave" / "comfyui"  # as the fixture comfyui, which skips where there is none
NAMES = known_to(HOST) if HOST.is_dir() else list(ARCHITECTURES)
VIDEOS = [name for name in NAMES if ARCHITECTURES[name].frames]
FAMILIES = list({ARCHITECTURES[name].family: name for name in reversed(NAMES)}.values())[::-1]

PROMPT = "a red circle on a dark background"
STEPS = 4
SAME = 1e-5
"""The largest relative difference of two computations of the same thing in fp32."""

KEEPS = {"Wan Animate 2": "its blocks are called by methods of their own, and not by forward()"}
"""Architectures whose blocks are not computed again, with the reason."""


class Case:
    """One architecture's MODEL, CLIP and VAE, and what the host and the pack make of them."""

    def __init__(self, name: str, modules: SimpleNamespace, host: SimpleNamespace, row: dict[str, Any]) -> None:
        self.name, self.row = name, row
        self.architecture: Architecture = ARCHITECTURES[name]
        self.parts = build(name)
        self._modules, self._host = modules, host

    def policy(self, parts: Parts | None = None, *, frames: int = 1, checkpointing: bool = False, **lora: Any) -> Any:
        """A NativePolicy, not entered."""
        of = self._modules
        config = of.config.LoraConfig(**({"rank": 4, "alpha": 8, "targets": "attention + MLP"} | lora))
        settings = of.policy.PolicySettings(*(parts or self.parts), config, of.policy.Guidance())
        picture = of.policy.Picture(self.architecture.size, self.architecture.size, frames=frames)
        memory = of.config.MemoryConfig(checkpointing="on" if checkpointing else "off")
        return of.native.NativePolicy(settings, picture, memory=memory)

    def drawn_by_the_host(self, model: Any, shape: tuple[int, ...], seed: int = 5) -> Tensor:
        """The latent of the stock KSampler (euler, simple), with the model's own guidance. Outside the policy."""
        nodes, clip = self._host.nodes.NODE_CLASS_MAPPINGS, self.parts.clip
        with torch.inference_mode():
            (cond,) = nodes["CLIPTextEncode"]().encode(clip, PROMPT)
            empty = {"samples": torch.zeros(1, *shape)}
            # HiDream-O1 keeps K and V of a prompt from one MODEL to the next that shares its network.
            getattr(model.model.diffusion_model, "clear_kv_cache", lambda: None)()
            (latent,) = nodes["KSampler"]().sample(model, seed, STEPS, 1.0, "euler", "simple", cond, cond, empty)
            return latent["samples"].clone()

    def drawn_by_the_policy(self, policy: Any, seed: int = 5) -> Tensor:
        """The same by the pack's own solver."""
        noise = torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(seed))
        sigmas, cond = policy.sigmas(STEPS), policy.encode(PROMPT)
        with torch.no_grad():
            one_by_one = self._modules.batches.Batches(1)
            latent = self._modules.solvers.ode(policy, noise * sigmas[0], cond=cond, sigmas=sigmas, batches=one_by_one)
        return policy._patcher.model.process_latent_out(policy._coordinates.latent(latent))

    def begin(self, policy: Any) -> Any:
        """What a run does before its first step: look at one gradient, and leave out the layers without any. The check.

        Inside the policy.
        """
        policy.sigmas(STEPS)
        check = policy.check_gradient(policy.encode(PROMPT))
        policy.leave_out(check.idle)
        return check

    def train(self, policy: Any, iterations: int = 2) -> list[Any]:
        """The metrics of a short run on a colour. Inside the policy."""
        of = self._modules
        config = of.config.TrainConfig(
            rollout=of.config.RolloutConfig(steps=STEPS, branch_steps=(0, 1), group_size=3),
            optim=of.config.OptimConfig(learning_rate=1e-2),
            run=of.config.RunConfig(iterations=iterations),
        )
        reward = of.mix.RewardMix.of(of.colour.ColourReward(1.0, 0.5, 0.0))
        decoder = of.decoder.NativeDecoder(policy._settings.model, policy._settings.vae)
        state = of.state.TrainState.begin(policy, config)
        conds = {PROMPT: policy.encode(PROMPT)}
        return list(of.loop.train(policy, decoder, reward=reward, conds=conds, config=config, state=state))

    def objective(self, policy: Any) -> Any:
        """value() of about 1: the second velocity of an Euler chain, seen in a fixed direction."""
        x, weight = randn(1, *policy.latent_shape, seed=1), randn(1, *policy.latent_shape, seed=2)
        sigmas, cond = policy.sigmas(STEPS), policy.encode(PROMPT)

        def value() -> Tensor:
            y = x + (sigmas[1] - sigmas[0]) * policy.velocity(x, torch.tensor([sigmas[0]]), [cond])
            return (weight * policy.velocity(y, torch.tensor([sigmas[1]]), [cond])).sum() / weight.numel() ** 0.5

        return value

    def gradient(self, policy: Any) -> dict[str, Tensor]:
        """{parameter: its gradient of the objective}, of an adapter that looks trained. Enters the policy.

        What a network's blocks write over is copied: PyTorch's own way, which needs the whole graph.
        """
        copied = torch.autograd.graph.allow_mutation_on_saved_tensors
        with policy:
            look_trained(policy)
            value = self.objective(policy)
            value()  # the conditioning is prepared, under inference_mode
            with copied() if self.architecture.overwrites else nullcontext():
                value().backward()
            return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in policy.parameters().items()}

    def kept_for_backward(self, policy: Any) -> int:
        """The bytes that autograd keeps of the objective, each memory once. Enters the policy."""
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with policy, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            _ = self.objective(policy)()
        return sum(kept.values())


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def look_trained(policy: Any, scale: float = 0.1) -> None:
    """Give the adapter random values: B is no longer 0."""
    with torch.no_grad():
        for i, p in enumerate(policy.parameters().values()):
            p.copy_(randn(*p.shape, seed=i) * scale)


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def gradient_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The length of the difference of two gradients, relative to the length of the second."""
    assert found.keys() == expected.keys()

    def length(values: Any) -> float:
        return sum(v.double().square().sum().item() for v in values) ** 0.5

    whole = length(expected.values())
    assert whole > 0
    return length(found[name] - g for name, g in expected.items()) / whole


@pytest.fixture(scope="module")
def table(host, artifacts):
    """{architecture: its row}; printed and saved at the end."""
    import comfy.supported_models
    from comfyui_version import __version__

    rows: dict[str, dict[str, Any]] = {name: {} for name in NAMES}
    yield rows
    rows = {name: row for name, row in rows.items() if row}
    print(f"\nComfyUI {__version__}\n{markdown(rows)}")
    configs = {each.__name__ for each in comfy.supported_models.models}
    left_out = {name: reason for name, reason in LEFT_OUT.items() if name in configs}
    measured = {"comfyui": __version__, "rows": rows, "left_out": left_out}
    (artifacts / "models.json").write_text(json.dumps(measured, indent=1), "utf-8")


@pytest.fixture(scope="module")
def case(request, host, pack, modules, table):
    return Case(request.param, modules, host, table[request.param])


each = pytest.mark.parametrize("case", NAMES, indirect=True)


def test_every_flow_class_of_the_host_is_here_or_left_out_for_a_reason(host):
    import comfy.model_sampling
    import comfy.supported_models

    here = {ARCHITECTURES[name].config for name in NAMES}
    flows = (comfy.model_sampling.CONST, comfy.model_sampling.COSMOS_RFLOW)
    others = [each for each in comfy.supported_models.models if each.__name__ not in here | LEFT_OUT.keys()]
    forgotten = [each.__name__ for each in others if isinstance(sampling_of(each), flows)]
    assert forgotten == []
    assert here.isdisjoint(LEFT_OUT)


@each
def test_it_draws_what_ksampler_draws(case):
    with case.policy() as policy:
        found = case.drawn_by_the_policy(policy)
    expected = case.drawn_by_the_host(case.parts.model, policy.latent_shape)
    case.row["velocity"] = difference(found, expected)
    assert expected.isfinite().all()
    assert case.row["velocity"] < SAME


@each
def test_rows_of_a_batch_do_not_see_each_other(case):
    with case.policy() as policy, torch.no_grad():
        cond, sigmas = policy.encode(PROMPT), torch.tensor(policy.sigmas(STEPS)[1:3])
        x = randn(2, *policy.latent_shape, seed=1)
        together = policy.velocity(x, sigmas, [cond] * 2)
        alone = torch.cat([policy.velocity(x[i : i + 1], sigmas[i : i + 1], [cond]) for i in range(2)])
    assert difference(together, alone) < SAME


@each
def test_two_steps_train_and_leave_the_model_as_it_was(case):
    network = case.parts.model.model.diffusion_model
    before = dict(network.named_parameters())
    values = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.inference_mode(), case.policy() as policy:  # as nodes run
        case.row["idle"] = len(case.begin(policy).idle)
        records = case.train(policy)
        still = [
            name.removesuffix(".lora_B.weight")
            for name, p in policy.parameters().items()
            if name.endswith("lora_B.weight") and not p.abs().max() > 0
        ]
    assert [record.skipped for record in records] == [False, False]
    assert all(record.grad_norm > 0 for record in records)
    assert still == [], "these layers get no gradient"
    after = dict(network.named_parameters())
    assert before.keys() == after.keys()
    assert all(after[name] is p for name, p in before.items())
    state = network.state_dict()
    assert values.keys() == state.keys()
    assert all(torch.equal(state[name], value) for name, value in values.items())


@each
def test_the_gradient_is_that_of_finite_differences(case):
    with case.policy() as policy:
        case.begin(policy)
        look_trained(policy)
        case.row["gradient"] = check_gradient(case.objective(policy), list(policy.parameters().values()))


@each
def test_checkpointing_does_not_change_the_gradient(case):
    with_it, without = (case.gradient(case.policy(checkpointing=on)) for on in (True, False))
    case.row["checkpointing"] = gradient_difference(with_it, without)
    assert case.row["checkpointing"] < SAME
    kept = [case.kept_for_backward(case.policy(checkpointing=on)) for on in (True, False)]
    if case.name in KEEPS:
        assert kept[0] == kept[1], "it is mended: take it out of KEEPS"
    else:
        assert kept[0] < 0.7 * kept[1], f"{kept[0]} of {kept[1]} bytes are kept: nothing is computed again"


@each
def test_the_host_takes_its_lora_whole(case, caplog):
    from comfy.sd import load_lora_for_models

    with case.policy() as policy:
        case.begin(policy)
        look_trained(policy)
        expected = case.drawn_by_the_policy(policy)
        lora = policy.export()
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        merged: Any = load_lora_for_models(case.parts.model, None, lora, 1.0, 0.0)[0]
    assert [record.getMessage() for record in caplog.records if "lora" in record.getMessage().lower()] == []
    layers = {name.removesuffix(".alpha") for name in lora if name.endswith(".alpha")}
    assert {name.removesuffix(".weight") for name in merged.patches} == layers
    drawn = case.drawn_by_the_host(merged, policy.latent_shape)
    assert difference(drawn, case.drawn_by_the_host(case.parts.model, policy.latent_shape)) > 1e-2
    case.row["lora"] = len(layers)
    assert difference(drawn, expected) < 10 * SAME  # the weights are merged in another order


@each
def test_which_layers_the_targets_mean(case, modules):
    network = case.parts.model.model.diffusion_model
    hit = [len(modules.targets.find_targets(network, kind)) for kind in ("attention", "attention + MLP", "all linear")]
    case.row["layers"] = hit
    assert 0 < hit[0] < hit[1] <= hit[2]


@pytest.mark.parametrize("case", FAMILIES, indirect=True)
def test_an_fp8_base_has_the_gradient_of_its_values(case):
    """The weights as UNETLoader casts them to fp8, and the same values in fp32."""
    quantised, plain = (
        case.parts._replace(model=build_model(case.name, dtype, torch.float32))
        for dtype in (torch.float8_e4m3fn, torch.float32)
    )
    network, values = plain.model.model.diffusion_model, quantised.model.model.diffusion_model.state_dict()
    assert any(value.dtype == torch.float8_e4m3fn for value in values.values())
    with torch.inference_mode():
        network.load_state_dict({name: value.float() for name, value in values.items()})
    expected = case.gradient(case.policy(plain))
    case.row["fp8"] = gradient_difference(case.gradient(case.policy(quantised)), expected)
    assert case.row["fp8"] < SAME


@pytest.mark.parametrize("case", VIDEOS, indirect=True)
def test_a_video_of_several_frames_trains(case, modules, caplog):
    factor = case.architecture.frames
    with case.policy(frames=factor + 1) as policy:
        assert policy.latent_shape[1] == 2
        found = case.drawn_by_the_policy(policy)
        with caplog.at_level(logging.INFO):
            case.begin(policy)
            (record,) = case.train(policy, iterations=1)
    assert record.grad_norm > 0
    assert difference(found, case.drawn_by_the_host(case.parts.model, policy.latent_shape)) < SAME
    said = [each.getMessage() for each in caplog.records if "middle one" in each.getMessage()]
    assert len(said) == 1
    assert f"{factor + 1} frames" in said[0]


@pytest.mark.parametrize("case", VIDEOS[:1], indirect=True)
def test_a_reward_sees_the_middle_frame(case, modules):
    factor = case.architecture.frames
    decoder = modules.decoder.NativeDecoder(case.parts.model, case.parts.vae)
    with case.policy(frames=factor + 1) as policy:
        latents = randn(2, *policy.latent_shape, seed=1)
    with torch.inference_mode():
        videos = case.parts.vae.decode(case.parts.model.model.process_latent_out(latents))
    assert videos.shape[:2] == (2, factor + 1)
    assert torch.equal(decoder.decode(latents), videos[:, (factor + 1) // 2])


def test_frames_that_the_vae_cannot_make_are_refused(modules, host, pack):
    with pytest.raises(modules.errors.ConfigError, match="frames: 4 .* use 1 or 5"):
        Case("Wan 2.1", modules, host, {}).policy(frames=4)
    with pytest.raises(modules.errors.ConfigError, match="frames: 5, but SD3 draws images"):
        Case("SD3", modules, host, {}).policy(frames=5)


def test_the_table_has_a_column_for_everything_that_is_measured(table):
    assert {key for row in table.values() for key in row} <= COLUMNS.keys()
