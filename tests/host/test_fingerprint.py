"""A base model is known again: on every host, in every dtype, from every kind of file."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

BUNDLED = "2-cc2a584dddc7407ae12ca387bc3d74ed"
"""The fingerprint of the bundled model, on every host."""
DATA = Path(__file__).resolve().parents[1] / "data" / "v0_3_0"


@pytest.fixture
def print_of(make_policy):
    """print_of(MODEL) -> its fingerprint, as a run takes it."""

    def made(model) -> str:
        with make_policy(model) as policy:
            return policy.fingerprint()

    return made


@pytest.fixture
def load(host, stock):
    """load(weights, weight_dtype) -> the MODEL that the stock loader makes of a file."""

    def made(weights, weight_dtype="default"):
        save_file(weights, host.base / "models" / "diffusion_models" / "fingerprinted.safetensors")
        host.folder_paths.filename_list_cache.clear()
        return stock.call("UNETLoader", unet_name="fingerprinted.safetensors", weight_dtype=weight_dtype)[0]

    return made


@pytest.fixture
def weights(modules):
    return load_file(modules.tiny.DIFFUSION_MODEL)


def scaled_fp8(weights):
    """A file of scaled fp8, as they are published: 8 bits and a scale for the linear layers of the blocks."""
    file = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for name, value in weights.items():
        if "block" in name and name.endswith(".weight") and value.ndim == 2:
            scale = value.float().abs().max() / 448
            file[name] = (value.float() / scale).to(torch.float8_e4m3fn)
            file[name.removesuffix("weight") + "scale_weight"] = scale
        else:
            file[name] = value
    return file


@pytest.mark.parametrize("weight_dtype", ["default", "fp8_e4m3fn", "fp8_e5m2"])
def test_a_file_has_one_fingerprint_on_every_host_and_in_every_dtype(print_of, load, weights, weight_dtype):
    assert print_of(load(weights, weight_dtype)) == BUNDLED


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_file_in_another_dtype_has_the_same(print_of, load, weights, dtype):
    assert print_of(load({name: value.to(dtype) for name, value in weights.items()})) == BUNDLED


def test_a_scaled_fp8_file_has_the_same_on_every_host(print_of, load, weights):
    model = load(scaled_fp8(weights))
    stored = {str(getattr(p, "_qdata", p).dtype) for p in model.model.diffusion_model.parameters()}
    assert "torch.float8_e4m3fn" in stored
    assert print_of(model) == BUNDLED


def test_a_fine_tune_and_an_exchange_of_values_are_told_apart(print_of, load, weights):
    generator = torch.Generator().manual_seed(0)
    prints = {BUNDLED}
    for name in ("context_embedder.weight", "joint_blocks.1.x_block.mlp.fc2.weight"):
        tuned = weights[name] + 1e-2 * weights[name].std() * torch.randn(weights[name].shape, generator=generator)
        prints.add(print_of(load(weights | {name: tuned.to(weights[name])})))
    assert len(prints) == 3


def test_gguf_has_the_fingerprint_of_its_bytes(print_of, make_policy, weights):
    import _gguf

    (model, _), (again, _) = _gguf.load(weights), _gguf.load(weights)
    network = model.model.diffusion_model
    assert all(value.is_meta for name, value in network.state_dict().items() if name.endswith("attn.qkv.weight"))
    fingerprint = print_of(model)
    assert print_of(again) == fingerprint != BUNDLED
    weight = again.model.diffusion_model.joint_blocks[0].x_block.attn.qkv.weight
    with torch.inference_mode():
        weight.view(-1)[40] += 1
    assert print_of(again) != fingerprint


def test_gguf_is_trained_with_the_gradient_of_the_same_values_as_plain_tensors(make_policy, train_briefly, weights):
    import _gguf

    adapters, models = [], _gguf.load(weights)
    for model in models:
        with make_policy(model) as policy:
            train_briefly(policy, iterations=1)
            adapters.append({name: p.detach().clone() for name, p in policy.parameters().items()})
    quantised, plain = adapters
    assert max(p.abs().max().item() for name, p in plain.items() if "lora_B" in name) > 0
    for name, value in plain.items():
        torch.testing.assert_close(quantised[name], value, atol=1e-5, rtol=1e-4)


def test_a_fingerprint_of_0_3_0_still_holds_for_its_model_and_for_no_other(make_policy, load):
    weights = load_file(DATA / "base" / "diffusion_model.safetensors")
    with safe_open(DATA / "v030_train_00001" / "lora.safetensors", "pt") as file:
        old = json.loads(file.metadata()["pave_recipe"])["model"]
    assert not old.startswith("2-")
    with make_policy(load(weights)) as policy:
        assert policy.is_base(old)
        assert policy.is_base(policy.fingerprint())
        assert not policy.is_base(old[::-1])
    other = load(weights | {"context_embedder.weight": -weights["context_embedder.weight"]})
    with make_policy(other) as policy:
        assert not policy.is_base(old)
        assert not policy.is_base(BUNDLED)
