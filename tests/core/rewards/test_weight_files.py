"""Files of weights, and files that are not: each of those is refused by name, with what to do; no code in it runs."""

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from pave_core.errors import ConfigError
from pave_core.rewards.aesthetic import Aesthetic, AestheticV25
from pave_core.rewards.clip_score import CLIPScore
from pave_core.rewards.hps import HPSv2
from pave_core.rewards.image_reward import ImageReward
from pave_core.rewards.networks.compute import Compute
from pave_core.rewards.networks.network import mlp
from pave_core.rewards.networks.weight_files import read_weights
from pave_core.rewards.pickscore import PickScore

MARKS = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}


class Code:
    """Unpickled by pickle itself, it would leave a file behind."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def torch_bytes(content, path, **options) -> bytes:
    torch.save(content, path, **options)
    return path.read_bytes()


def scripted(path) -> bytes:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    return path.read_bytes()


def zipped(path) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "no weights")
    return path.read_bytes()


SAFE = save({"a": torch.ones(1000)})


LEGACY = {"_use_new_zipfile_serialization": False}


DAMAGED = r"is damaged or cut short \([\d,]+ bytes; .+\): compare its size with the original's and download it again"


CODE = r"holds code besides weights \({}\), which is never run: get the model as safetensors"


BAD = {
    "missing": (".safetensors", lambda path, trace: None, "does not exist: choose a file that does"),
    "empty": (".pt", lambda path, trace: b"", "is empty: the download failed; download it again"),
    "a web page": (
        ".pth",
        lambda path, trace: b"\n<!DOCTYPE html><html><body>Log in</body></html>",
        "is a web page .*: use the page's download",
    ),
    "a git-lfs pointer": (
        ".safetensors",
        lambda path, trace: b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 3944000000\n",
        "is a Git LFS pointer, not the weights: run `git lfs pull`",
    ),
    "a server's refusal": (
        ".safetensors",
        lambda path, trace: b'{"error": "Repository not found"}',
        "is JSON text .*: download the weights",
    ),
    "a text": (
        ".bin",
        lambda path, trace: b"these are no weights at all",
        "is neither a safetensors nor a PyTorch file",
    ),
    "zeros": (".safetensors", lambda path, trace: bytes(5000), "is neither a safetensors nor a PyTorch file"),
    "safetensors, cut in the header": (".safetensors", lambda path, trace: SAFE[:20], DAMAGED),
    "safetensors, cut in the data": (".safetensors", lambda path, trace: SAFE[:-1000], DAMAGED),
    "safetensors, with too long a header": (
        ".safetensors",
        lambda path, trace: struct.pack("<Q", 10**9) + SAFE[8:],
        DAMAGED,
    ),
    "a PyTorch file, cut": (".pt", lambda path, trace: torch_bytes({"a": torch.ones(5000)}, path)[:9000], DAMAGED),
    "an old PyTorch file, cut": (
        ".pth",
        lambda path, trace: torch_bytes({"a": torch.ones(5000)}, path, **LEGACY)[:9000],
        DAMAGED,
    ),
    "a pickle of noise": (".pt", lambda path, trace: b"\x80\x02garbage" * 50, DAMAGED),
    "a zip of something else": (".pt", lambda path, trace: zipped(path), DAMAGED),
    "a pickle with code": (
        ".pt",
        lambda path, trace: torch_bytes({"a": torch.ones(3), "b": Code(trace)}, path),
        CODE.format(r"\w+\.mkdir"),
    ),
    "an old pickle with code": (
        ".bin",
        lambda path, trace: torch_bytes({"b": Code(trace)}, path, **LEGACY),
        CODE.format(r"\w+\.mkdir"),
    ),
    "a bare pickle with code": (".pt", lambda path, trace: pickle.dumps(Code(trace)), DAMAGED),
    "a whole module": (
        ".pth",
        lambda path, trace: torch_bytes(torch.nn.Linear(2, 2), path),
        CODE.format(r"torch\.nn\.[\w.]+"),
    ),
    "a TorchScript archive": (
        ".pt",
        lambda path, trace: scripted(path),
        "is a TorchScript archive, which holds code .*: get the model as",
    ),
    "a list": (
        ".pt",
        lambda path, trace: torch_bytes([torch.ones(3)], path),
        r"holds no weights \(a list, .*\): choose the model's file",
    ),
    "one tensor": (
        ".pt",
        lambda path, trace: torch_bytes(torch.ones(3), path),
        r"holds no weights \(a Tensor, .*\): choose the",
    ),
    "numbers by name": (
        ".pt",
        lambda path, trace: torch_bytes({"lr": 0.1}, path),
        r"holds no weights \(a dict, .*\): choose the",
    ),
    "nothing by name": (
        ".pt",
        lambda path, trace: torch_bytes({"state_dict": {}}, path),
        r"holds no weights \(a dict, .*\): choose the",
    ),
    "another model": (
        ".safetensors",
        lambda path, trace: save({"blocks.0.weight": torch.ones(3, 3)}),
        "does not fit .*: choose .*missing",
    ),
}


def head(places):
    return {f"{places[0]}.{key}": value for key, value in mlp(*places[1:]).state_dict().items()}


@pytest.fixture
def rewards(tmp_path):
    """{case: (the field that names the file, make(path))}; the other file of a reward is good, or read later."""
    good_v2, good_v25, vocabulary = tmp_path / "head.pth", tmp_path / "head_v25.pth", tmp_path / "vocab.txt"
    torch.save(head(("layers", 768, (0, 2, 4, 6, 7))), good_v2)
    torch.save(head(("scoring_head", 1152, (0, 2, 4, 6, 8))), good_v25)
    vocabulary.write_text("\n".join(MARKS.get(i, f"[unused{i}]") for i in range(30522)), "utf-8")
    later = tmp_path / "later.safetensors"
    return {
        "clip score": ("checkpoint", lambda path: CLIPScore(path, "ViT-B-32")),
        "hps": ("checkpoint", HPSv2),
        "pickscore": ("checkpoint", PickScore),
        "aesthetic v2": ("checkpoint", lambda path: Aesthetic(later, path)),
        "aesthetic v2, its CLIP": ("clip_weights", lambda path: Aesthetic(path, good_v2)),
        "aesthetic v2.5": ("checkpoint", lambda path: AestheticV25(later, path)),
        "aesthetic v2.5, its SigLIP": ("siglip_weights", lambda path: AestheticV25(path, good_v25)),
        "imagereward": ("checkpoint", lambda path: ImageReward(path, vocabulary)),
    }


CASES = [
    "clip score",
    "hps",
    "pickscore",
    "aesthetic v2",
    "aesthetic v2, its CLIP",
    "aesthetic v2.5",
    "aesthetic v2.5, its SigLIP",
    "imagereward",
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused_by_name_with_what_to_do(rewards, tmp_path, case, bad):
    field, make = rewards[case]
    suffix, content_of, message = BAD[bad]
    path, trace = tmp_path / f"bad{suffix}", tmp_path / "the code has run"
    content = content_of(path, trace)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^{field}: bad{suffix} {message}") as error:
        make(path)
    assert str(tmp_path) not in str(error.value)
    assert "weights_only" not in str(error.value)  # torch's advice is to switch its protection off
    assert not trace.exists()


def test_the_pickle_of_these_tests_would_run_its_code(tmp_path):
    pickle.loads(pickle.dumps(Code(tmp_path / "trace")))  # noqa: S301 - our own, which makes a folder
    assert (tmp_path / "trace").is_dir()


def test_what_does_not_fit_is_counted_and_named(tmp_path):
    state = head(("layers", 768, (0, 2, 4, 6, 7)))
    state["layers.2.weight"] = torch.ones(128, 512)
    state["layers.9.weight"] = state.pop("layers.7.weight")
    torch.save(state, tmp_path / "head.pth")
    with pytest.raises(ConfigError) as error:
        Aesthetic(tmp_path / "clip.safetensors", tmp_path / "head.pth")
    assert str(error.value).endswith(
        "Of 10 tensors: 1 missing (7.weight); 1 of another shape (2.weight (128, 512) not (128, 1024)); "
        "1 too many (9.weight)"
    )
    torch.save({f"layers.{i}.weight": torch.ones(1) for i in range(10, 90)}, tmp_path / "head.pth")
    with pytest.raises(
        ConfigError,
        match=r"10 missing \(0\.weight, 0\.bias, 2\.weight, \.\.\.\); 80 too many \(10\.weight, .*, \.\.\.\)$",
    ):
        Aesthetic(tmp_path / "clip.safetensors", tmp_path / "head.pth")


def test_a_head_of_the_other_aesthetic_reward_is_refused_with_the_right_file(tmp_path):
    torch.save(head(("scoring_head", 1152, (0, 2, 4, 6, 8))), tmp_path / "aesthetic_predictor_v2_5.pth")
    with pytest.raises(
        ConfigError,
        match=r"^checkpoint: aesthetic_predictor_v2_5\.pth .*: choose sac\+logos\+ava1-l14-linearMSE\.pth of christoph",
    ):
        Aesthetic(tmp_path / "clip.safetensors", tmp_path / "aesthetic_predictor_v2_5.pth")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, number):
    state = head(("layers", 768, (0, 2, 4, 6, 7)))
    state["layers.4.bias"][3] = number
    torch.save(state, tmp_path / "head.pth")
    with pytest.raises(
        ConfigError,
        match=r"^checkpoint: head\.pth has numbers in 4\.bias that are not finite as fp32: download it again",
    ):
        Aesthetic(tmp_path / "clip.safetensors", tmp_path / "head.pth")


def test_weights_too_large_for_fp16_are_refused_with_another_precision(clip_file, tmp_path):
    weights = clip_file(positional_embedding=torch.full((77, 32), 1e6))
    CLIPScore(weights, tmp_path / "tiny.json", Compute(precision="bf16"))
    with pytest.raises(
        ConfigError, match=r"^checkpoint: tiny.safetensors .* positional_embedding .* as fp16: choose fp32 or bf16"
    ):
        CLIPScore(weights, tmp_path / "tiny.json", Compute(precision="fp16"))


def test_a_file_may_change_while_its_reward_is_in_use(clip_file, tmp_path):
    weights = clip_file()
    reward = CLIPScore(weights, tmp_path / "tiny.json")
    images = torch.rand(2, 32, 32, 3)
    before = reward(images, ["a", "b"])
    weights.write_bytes(bytes(weights.stat().st_size))
    assert reward(images, ["c", "d"]).isfinite().all()
    assert torch.equal(reward(images, ["a", "b"]), before)


def test_wrappings_of_training_runs_are_taken_off(tmp_path):
    weights = {"a": torch.ones(2), "module.b": torch.zeros(3)}
    torch.save(
        {"epoch": 3, "model": {"state_dict": {f"module.{key}": value for key, value in weights.items()}}},
        tmp_path / "a.ckpt",
    )
    assert {key: value.tolist() for key, value in read_weights(tmp_path / "a.ckpt", "x").items()} == {
        "a": [1, 1],
        "module.b": [0, 0, 0],
    }
    save_file(weights, tmp_path / "renamed.pt")  # a safetensors file under another suffix
    assert set(read_weights(tmp_path / "renamed.pt", "x")) == {"a", "module.b"}


@pytest.mark.parametrize("length", [0x80, 0x180, 0x1F20, 0x3C20, 0x5B20, 0x7B20])
def test_a_safetensors_file_is_known_by_its_ninth_byte_whatever_the_length_before_it_spells(tmp_path, length):
    """The header's length comes first: 0x80 begins a pickle too, and 0x3C20 is a space and a "<" as in a web page."""
    path = tmp_path / "weights.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(length)
    path.write_bytes(struct.pack("<Q", length) + header + struct.pack("<f", 3.0))
    assert read_weights(path, "checkpoint")["a"].tolist() == [3.0]
