"""What a LoRA's metadata calls its base model, by what the host finds in the model's file."""

import json
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open


@pytest.mark.parametrize(
    ("name", "network", "expected"),
    [
        ("Flux", {"image_model": "flux", "guidance_embed": True, "hidden_size": 3072}, "flux-1-dev"),
        ("FluxSchnell", {"image_model": "flux", "guidance_embed": False, "hidden_size": 3072}, "flux-1-schnell"),
        ("SD3", {"in_channels": 16, "pos_embed_scaling_factor": None, "depth": 24}, "stable-diffusion-3-m"),
        (
            "SD3",
            {"in_channels": 16, "pos_embed_scaling_factor": None, "depth": 24, "x_block_self_attn_layers": [0, 1]},
            "stable-diffusion-3-5-medium",
        ),
        (
            "SD3",
            {"in_channels": 16, "pos_embed_scaling_factor": None, "depth": 38, "x_block_self_attn_layers": []},
            "stable-diffusion-3-5-large",
        ),
        ("SD3", {"in_channels": 16, "pos_embed_scaling_factor": None, "depth": 2}, None),
        ("Chroma", {"image_model": "chroma", "hidden_size": 3072}, "chroma"),
        ("Lumina2", {"image_model": "lumina2", "dim": 2304}, "lumina-2"),
        ("ZImage", {"image_model": "lumina2", "dim": 3840}, "z-image"),
        ("QwenImage", {"image_model": "qwen_image", "num_layers": 60}, "qwen-image"),
        ("QwenImage", {"image_model": "qwen_image", "num_layers": 2}, None),
        ("WAN21_T2V", {"image_model": "wan2.1", "model_type": "t2v", "dim": 5120}, "wan2.1"),
        ("HunyuanVideo", {"image_model": "hunyuan_video", "hidden_size": 3072}, "hunyuan-video"),
    ],
)
def test_models_are_known_as_the_host_finds_them(host, modules, name, network, expected):
    """`network` is what the host's detection says of such a file; its own list of models finds the class."""
    import comfy.supported_models

    found = next(each for each in comfy.supported_models.models if each.matches(network, {}))
    assert found.__name__ == name
    about = SimpleNamespace(model=SimpleNamespace(model_config=found(network)))
    assert modules.module("nodes.host.policy.architecture").architecture_of(about) == expected


def test_the_bundled_model_is_taken_for_no_other(make_policy):
    assert "architecture" not in make_policy().describe()


def test_the_stock_loader_takes_a_lora_with_metadata_and_a_thumbnail(host, modules, make_policy, stock, tmp_path):
    lora_file = modules.module("pave_core.policies.lora_file")
    policy = make_policy()
    with policy:
        weights = policy.export()
    for key, value in weights.items():
        if key.endswith("lora_B.weight"):
            value += 0.1
    recipe = {"config": modules.config.TrainConfig().to_dict(), "step": 1, "architecture": "flux-1-dev"}
    path = host.base / "output" / "loras" / "with_metadata.safetensors"
    lora_file.save_lora(path, lora_file.LoraWeights(weights, recipe, torch.rand(64, 64, 3)))
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()[lora_file.RECIPE_KEY]) == json.loads(json.dumps(recipe))
        assert "modelspec.thumbnail" in file.metadata()
    (loaded,) = stock.call(
        "LoraLoaderModelOnly", model=stock.model, lora_name="with_metadata.safetensors", strength_model=1.0
    )
    assert len(loaded.patches) == len([key for key in weights if key.endswith(".alpha")])
