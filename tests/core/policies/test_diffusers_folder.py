"""Folders of pipelines: what is refused, in words that name the file."""

import json
import socket
from pathlib import Path

import pytest
import torch

from _tiny_pipelines import build, saved
from pave_core.errors import ConfigError
from pave_core.policies.diffusers.families import FAMILIES
from pave_core.policies.diffusers.folder import load
from pave_core.policies.diffusers.policy import PipelinePolicy, Sampling


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whoever would download something fails."""

    def refused(*args, **kwargs):
        raise AssertionError("something wants to be downloaded")

    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    return saved("SD3", tmp_path_factory.mktemp("pipelines") / "sd3")


@pytest.fixture
def copy(sd3, tmp_path):
    """A copy of the folder, to be damaged."""
    import shutil

    return Path(shutil.copytree(sd3, tmp_path / "sd3"))


def changed(file, change):
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


def test_a_folder_is_read_as_it_was_written_and_draws_the_same(sd3):
    written, read = build("SD3"), load(sd3, torch.float32)
    for part in ("transformer", "vae", "text_encoder_3"):
        mine, theirs = (dict(getattr(each, part).named_parameters()) for each in (written, read))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    prints = [PipelinePolicy(each, None, Sampling(width=64, height=64)).fingerprint() for each in (written, read)]
    assert prints[0] == prints[1]
    assert prints[0] != PipelinePolicy(build("SD3", seed=1), None, Sampling(width=64, height=64)).fingerprint()


def test_a_fingerprint_is_that_of_the_weights_in_any_precision(sd3):
    prints = {
        PipelinePolicy(load(sd3, dtype), None, Sampling(width=64, height=64)).fingerprint()
        for dtype in (torch.float32, torch.bfloat16, torch.float16)
    }
    assert len(prints) == 1


def truncated(folder):
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def no_weights(folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()


def no_part(folder):
    import shutil

    shutil.rmtree(folder / "text_encoder_3")


def missing_shard(folder):
    index = {"weight_map": {"a": "model-00002-of-00002.safetensors"}}
    (folder / "text_encoder_3" / "model.safetensors.index.json").write_text(json.dumps(index))


def pickled(folder):
    part = folder / "vae"
    (part / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, part / "diffusion_pytorch_model.bin")


def junk(folder):
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"\x10" + b"\0" * 7 + b"junk" * 100)


def index_is(text):
    return lambda folder: (folder / "model_index.json").write_text(text)


def index_with(**values):
    return lambda folder: changed(folder / "model_index.json", lambda index: index.update(values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, r"transformer/diffusion_pytorch_model.safetensors has [\d,]+ of [\d,]+ bytes: download it again"),
        (no_weights, r"the part vae has no .safetensors, the only files of weights that are read"),
        (no_part, r"the part text_encoder_3 is missing: put it into .*text_encoder_3"),
        (missing_shard, r"text_encoder_3/model-00002-of-00002.safetensors is missing: download it into"),
        (pickled, r"the part vae has no .safetensors"),
        (junk, r"transformer/diffusion_pytorch_model.safetensors is no safetensors file"),
        (index_is("{"), "model_index.json of sd3 is damaged"),
        (index_is("[]"), "model_index.json of sd3 is no group of values"),
        (index_is("[" * 100_000), "model_index.json of sd3 is damaged"),
        (
            index_with(_class_name="StableDiffusionPipeline"),
            r"'StableDiffusionPipeline' is none that trains.*SDXL",
        ),
        (index_with(_class_name="StableDiffusionXLPipeline"), r"'StableDiffusionXLPipeline' is none that trains here"),
        (index_with(_class_name=None), "'None' is none that trains here"),
        (index_with(vae=["os", "system"]), r"vae of sd3 is \['os', 'system'\]: parts can be classes of diffusers"),
        (index_with(vae=["my_module", "Evil"]), "parts can be classes of diffusers and transformers"),
        (lambda folder: (folder / "model_index.json").unlink(), "sd3 has no model_index.json"),
    ],
)
def test_a_folder_that_cannot_work_is_refused_by_name(copy, damage, message):
    damage(copy)
    with pytest.raises(ConfigError, match=message) as refused:
        load(copy, torch.float32)
    assert str(refused.value).startswith("pipeline: ")
    assert len(str(refused.value)) <= 500


def test_no_code_of_a_folder_runs(copy, tmp_path):
    """A module of the folder's own, as trust_remote_code would take it."""
    mark = tmp_path / "ran"
    evil = f"open({str(mark)!r}, 'w').close()\nclass Evil: pass\n"
    for name in ("pipeline.py", "transformer/evil.py", "evil.py"):
        (copy / name).write_text(evil)
    changed(copy / "model_index.json", lambda index: index.update(transformer=["evil", "Evil"]))
    with pytest.raises(ConfigError, match="parts can be classes of"):
        load(copy, torch.float32)
    changed(copy / "model_index.json", lambda index: index.update(transformer=["diffusers", "SD3Transformer2DModel"]))
    changed(copy / "transformer" / "config.json", lambda config: config.update(auto_map={"AutoModel": "evil.Evil"}))
    load(copy, torch.float32)
    assert not mark.exists()


def test_every_family_is_a_pipeline_of_diffusers():
    import diffusers

    assert all(hasattr(diffusers, name) for name in FAMILIES)
