"""The format of an exported LoRA, and diffusers' own; what the host makes of its keys is in tests/host."""

import pytest
import torch

from _tiny_pipelines import FAMILIES, build
from pave_core.config.adapter import LoraConfig
from pave_core.policies.adapter import LoraAdapter
from pave_core.policies.diffusers.export import export, to_diffusers


def weights_on(network):
    """A LoRA with random A and B for all linear layers of a network, which is left as it was."""
    config = LoraConfig(rank=4, alpha=8, targets="all linear")
    adapter = LoraAdapter(network, config, generator=torch.Generator().manual_seed(0), device=torch.device("cpu"))
    with torch.no_grad():
        for i, p in enumerate(adapter.parameters().values()):
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    adapter.detach()
    return adapter.export(prefix="")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_host_has_all_layers_of_all_models_but_sana(name):
    network = build(name).transformer
    weights = weights_on(network)
    lora = export(network, weights)
    assert lora.format == ("diffusers" if name == "Sana" else "host")
    prefix = "transformer." if name == "Sana" else "diffusion_model."
    assert all(key.startswith(prefix) for key in lora.weights)
    A = [value for key, value in lora.weights.items() if key.endswith(".lora_A.weight")]
    assert sum(len(a) for a in A) == sum(len(value) for key, value in weights.items() if "lora_A" in key)


def test_a_layer_that_the_host_does_not_know_keeps_the_lora_in_diffusers_format():
    network = build("FLUX dev").transformer
    weights = weights_on(network)
    unknown = {
        f"transformer_blocks.0.new.{key.rsplit('x_embedder.', 1)[1]}": value
        for key, value in weights.items()
        if key.startswith("x_embedder.")
    }
    assert len(unknown) == 3
    lora = export(network, weights | unknown)
    assert lora.format == "diffusers"
    assert len(lora.weights) == 2 * len(weights | unknown) // 3


@pytest.mark.parametrize("name", FAMILIES)
def test_diffusers_takes_its_own_format_whole(name):
    pipeline = build(name)
    weights = weights_on(pipeline.transformer)
    pipeline.load_lora_weights(to_diffusers(weights), adapter_name="trained")
    layers = [key.removesuffix(".alpha") for key in weights if key.endswith(".alpha")]
    loaded = {layer: pipeline.transformer.get_submodule(layer) for layer in layers}
    for layer, module in loaded.items():
        A, B, alpha = (weights[f"{layer}.{part}"] for part in ("lora_A.weight", "lora_B.weight", "alpha"))
        torch.testing.assert_close(module.get_delta_weight("trained"), alpha / len(A) * B @ A)
