"""Configs of open_clip: which are offered, what they say about images, and which are refused."""

import json

import pytest

from _networks import TINY
from pave_core.errors import ConfigError
from pave_core.rewards.clip_score import CLIPScore
from pave_core.rewards.networks.clip_config import architectures, preprocess_of, read_config
from pave_core.rewards.networks.preprocess import Preprocess


def test_the_preprocessing_of_an_architecture_is_that_of_its_published_weights():
    assert preprocess_of(read_config("ViT-B-32")) == Preprocess((224, 224))
    mobile = Preprocess((256, 256), mean=(0.0,) * 3, std=(1.0,) * 3, resize="shortest", interpolation="bilinear")
    assert preprocess_of(read_config("MobileCLIP-S1")) == mobile
    assert preprocess_of(read_config("ViT-H-14-378-quickgelu")).resize == "squash"


def test_an_architecture_that_would_download_something_is_not_offered():
    assert {"ViT-H-14", "ViT-L-14-quickgelu", "RN50"} <= set(architectures())
    for name, reason in (
        ("roberta-ViT-B-32", "tokenizer 'roberta-base'"),
        ("ViT-B-16-SigLIP", "tokenizer"),
        ("coca_ViT-L-14", "captioner"),
    ):
        assert name not in architectures()
        with pytest.raises(ConfigError, match=f"^architecture: .*{reason}.*: choose"):
            read_config(name)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "is not an open_clip config"),
        ("[1, 2]", "has no model_cfg"),
        ('{"model_cfg": {"embed_dim": 16}}', "has no model_cfg with vision_cfg and text_cfg"),
        (
            json.dumps({"model_cfg": TINY | {"embed_dimension": 3}}),
            "cannot build it .*embed_dimension.*: update open_clip, or choose another",
        ),
        (
            json.dumps({"model_cfg": TINY | {"text_cfg": {"hf_tokenizer_name": "bert-base-uncased"}}}),
            "tokenizer 'bert-base-uncased' would have to",
        ),
        (
            json.dumps({"model_cfg": TINY | {"text_cfg": {"hf_model_name": "roberta-base"}}}),
            "tokenizer 'roberta-base' would have to be downloaded",
        ),
        (
            json.dumps({"model_cfg": TINY | {"vision_cfg": {"timm_model_name": "hf-hub:owner/name"}}}),
            "image tower 'hf-hub:owner/name' would have to be downloaded",
        ),
        (json.dumps({"model_cfg": TINY | {"multimodal_cfg": {}}}), "captioner .*: choose a CLIP"),
    ],
)
def test_a_bad_config_is_refused(clip_file, tmp_path, config, message):
    weights = clip_file()
    (tmp_path / "tiny.json").write_text(config)
    with pytest.raises(ConfigError, match=f"^architecture: .*{message}"):
        CLIPScore(weights, tmp_path / "tiny.json")


def test_a_config_with_an_unknown_way_to_resize_is_refused(clip_file, tmp_path):
    weights = clip_file()
    for key, value in (("resize_mode", "stretch"), ("interpolation", "random")):
        (tmp_path / "tiny.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {key: value}}))
        with pytest.raises(ConfigError, match=f"^{key}: '{value}' is not known: the config must say"):
            CLIPScore(weights, tmp_path / "tiny.json")


def test_an_architecture_that_does_not_exist_is_refused(clip_file):
    for name in ("ViT-Z-99", "hf-hub:laion/CLIP-ViT-B-32", "../ViT-B-32"):
        with pytest.raises(
            ConfigError, match=f"^architecture: '{name}' is not an open_clip architecture: choose one of the list"
        ):
            CLIPScore(clip_file(), name)
