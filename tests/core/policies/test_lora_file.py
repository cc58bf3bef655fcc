"""LoRA files."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from pave_core.config.train import TrainConfig
from pave_core.errors import TrainingError
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
