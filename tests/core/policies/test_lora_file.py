"""LoRA files."""

import base64
import hashlib
import io
import json
import struct
from datetime import datetime

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from pave_core.config.train import TrainConfig
from pave_core.errors import TrainingError
from pave_core.policies.architecture import FAMILIES, VERSIONS, architecture_of_pipeline
from pave_core.policies.lora_file import RECIPE_KEY, LoraWeights, save_lora


def test_a_lora_file_carries_its_recipe(tmp_path):
    recipe = {"config": TrainConfig().to_dict(), "step": 3}
    weights = LoraWeights({"diffusion_model.a.alpha": torch.tensor(2.0)}, recipe)
    save_lora(tmp_path / "x" / "y.safetensors", weights)
    with safe_open(tmp_path / "x" / "y.safetensors", "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata[RECIPE_KEY]) == json.loads(json.dumps(recipe))
    assert json.loads(metadata[RECIPE_KEY])["step"] == 3
    assert (metadata["ss_network_dim"], metadata["ss_network_alpha"]) == ("64", "128.0")
    assert metadata["modelspec.title"] == metadata["ss_output_name"] == "y"


def test_a_lora_of_another_program_is_saved_as_it_is(tmp_path):
    values = torch.arange(6.0).view(2, 3).T  # not contiguous
    save_lora(tmp_path / "y.safetensors", {"a": values})
    assert torch.equal(load_file(tmp_path / "y.safetensors")["a"], values)
    with safe_open(tmp_path / "y.safetensors", "pt") as file:
        assert RECIPE_KEY not in file.metadata()


def test_a_lora_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "y.safetensors").mkdir()
    with pytest.raises(TrainingError, match="could not write"):
        save_lora(tmp_path / "y.safetensors", {"a": torch.ones(1)})


def test_a_lora_file_says_what_managers_look_for(tmp_path):
    recipe = {
        **{"config": TrainConfig().to_dict(), "step": 7, "architecture": "flux-1-dev"},
        "sampling": {"width": 512, "height": 640},
    }
    weights = LoraWeights({"diffusion_model.a.lora_A.weight": torch.arange(6.0)}, recipe, torch.rand(300, 400, 3))
    save_lora(tmp_path / "warm.safetensors", weights)
    with safe_open(tmp_path / "warm.safetensors", "pt") as file:
        said = file.metadata()
    assert said["modelspec.sai_model_spec"] == "1.0.1"
    assert said["modelspec.architecture"] == "flux-1-dev/lora"
    assert said["ss_base_model_version"] == "flux1"
    assert (said["modelspec.title"], said["modelspec.resolution"], said["ss_steps"]) == ("warm", "512x640", "7")
    assert datetime.fromisoformat(said["modelspec.date"]).tzinfo is not None
    kind, _, data = said["modelspec.thumbnail"].partition(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert max(picture.size) == 256
    data = (tmp_path / "warm.safetensors").read_bytes()
    content = data[8 + struct.unpack("<Q", data[:8])[0] :]
    assert said["modelspec.hash_sha256"] == f"0x{hashlib.sha256(content).hexdigest()}"


def test_what_is_not_known_is_left_out(tmp_path):
    save_lora(tmp_path / "y.safetensors", LoraWeights({"a": torch.ones(1)}, {"config": TrainConfig().to_dict()}))
    with safe_open(tmp_path / "y.safetensors", "pt") as file:
        said = file.metadata()
    unknown = ("sai_model_spec", "architecture", "implementation", "resolution", "thumbnail", "trigger_phrase")
    assert not {f"modelspec.{name}" for name in unknown} & said.keys()
    assert not {"ss_base_model_version", "ss_tag_frequency", "ss_steps"} & said.keys()


@pytest.mark.parametrize(
    ("pipeline", "network", "expected"),
    [
        (
            "FluxPipeline",
            {"guidance_embeds": True, "num_attention_heads": 24, "attention_head_dim": 128},
            "flux-1-dev",
        ),
        (
            "FluxPipeline",
            {"guidance_embeds": False, "num_attention_heads": 24, "attention_head_dim": 128},
            "flux-1-schnell",
        ),
        ("FluxPipeline", {"guidance_embeds": True, "num_attention_heads": 2, "attention_head_dim": 16}, None),
        ("StableDiffusion3Pipeline", {"num_attention_heads": 24, "attention_head_dim": 64}, "stable-diffusion-3-m"),
        (
            "StableDiffusion3Pipeline",
            {"num_attention_heads": 24, "attention_head_dim": 64, "dual_attention_layers": (0, 1)},
            "stable-diffusion-3-5-medium",
        ),
        ("ZImagePipeline", {"dim": 3840}, "z-image"),
        ("Lumina2Pipeline", {"hidden_size": 2304, "num_attention_heads": 24}, "lumina-2"),
        ("AnotherPipeline", {"dim": 3840}, None),
    ],
)
def test_pipelines_are_known_by_class_and_width(pipeline, network, expected):
    assert architecture_of_pipeline(pipeline, network) == expected


def test_every_architecture_has_a_version():
    assert set(FAMILIES.values()) == set(VERSIONS)
