"""Pictures, prompts, servers, and checkpoints of the true layout with random weights."""

import gc
import json
import socket
from collections.abc import Iterable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from _judge_server import serve  # noqa: F401 - serve(behave) -> a Server

PROMPTS = ("a red fox in the snow", "An old sailing ship, oil on canvas!", "two cats; one asleep")


def picture(seed: int, height: int, width: int) -> torch.Tensor:
    """(height, width, 3) in [0, 1], in steps of 1 / 255: coarse patches of colour under fine noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 4, generator=generator)
    patches = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0].movedim(0, -1)
    noisy = (patches + 0.15 * torch.randn(height, width, 3, generator=generator)).clamp(0, 1)
    return (noisy * 255).round() / 255


def pil(images: torch.Tensor) -> list[Image.Image]:
    """The same pictures for the published pipelines."""
    return [Image.fromarray((image * 255).round().numpy().astype(np.uint8)) for image in images]


class RandomWeights:
    """Random numbers for every tensor of a layout, biases and norms too, so that a tensor in the wrong place shows.

    All come from one pool of noise: drawing a thousand million numbers would take longer than the tests.
    """

    def __init__(self, seed: int, gain: float = 1.0):
        self.noise = torch.randn(16_777_259, generator=torch.Generator().manual_seed(seed))
        self.gain = gain
        self.start = 0

    def draw(self, count: int) -> torch.Tensor:
        self.start = (self.start + 7_919_111) % len(self.noise)
        times = -(-(count + self.start) // len(self.noise))
        return (
            self.noise.repeat(times)[self.start : self.start + count]
            if times > 1
            else self.noise[self.start : self.start + count].clone()
        )

    def tensor(self, name: str, shape: Iterable[int]) -> torch.Tensor:
        shape = tuple(shape)
        values = self.draw(int(np.prod(shape))).view(shape)
        if name.endswith("logit_scale"):
            return torch.full(shape, 4.6)
        if len(shape) < 2:
            return 1 + 0.1 * values if name.endswith("weight") else 0.1 * values
        fan_in = int(np.prod(shape[1:])) if "embed" not in name.lower() and name.split(".")[-1] != "proj" else shape[-1]
        return self.gain * values / fan_in**0.5

    def fill(self, layout: dict[str, torch.Tensor], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
        """layout: tensors whose names and shapes count, such as the state dict of a module on the meta device."""
        return {name: self.tensor(name, value.shape).to(dtype) for name, value in layout.items()}


@pytest.fixture(scope="session")
def world() -> SimpleNamespace:
    """.prompts, .picture(seed, height, width), .pil(images), .RandomWeights(seed, gain)"""
    return SimpleNamespace(prompts=PROMPTS, picture=picture, pil=pil, RandomWeights=RandomWeights)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)  # two threads that wait for each other crawl when another program has a core


@pytest.fixture
def images():
    """Three random images that are not square, each with a flat part of another width: (3, 6, 9, 3)."""
    made = torch.rand(3, 6, 9, 3, generator=torch.Generator().manual_seed(5))
    for i, image in enumerate(made):
        image[:, : 3 + i] = image[0, 0].clone()
    return made


@pytest.fixture
def no_network(monkeypatch):
    """A connection or a look-up of a name is a failure of the test."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"a connection was made: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture(scope="session")
def clip_tokenizer(comfyui):
    """Hugging Face's CLIP tokenizer, on the vocabulary that the host carries."""
    import transformers

    return transformers.CLIPTokenizer.from_pretrained(str(comfyui / "comfy" / "sd1_tokenizer"))


@pytest.fixture
def checkpoint(tmp_path):
    """checkpoint(name, content) -> the path of a file that is deleted after the test."""
    made = []

    def write(name, content):
        path = tmp_path / name
        made.append(path)
        if path.suffix == ".safetensors":
            save_file({key: value.contiguous() for key, value in content.items()}, path)
        else:
            torch.save(content, path)
        return path

    yield write
    for path in made:
        path.unlink()
    gc.collect()


@pytest.fixture
def tiny_clip(world, tmp_path):
    """.reward(**compute), .model and .transform of a tiny open_clip architecture with random weights."""
    import open_clip

    from _networks import TINY, filled, layout
    from pave_core.rewards.clip_score import CLIPScore
    from pave_core.rewards.networks.compute import Compute

    prepared = {"mean": (0.4, 0.5, 0.6), "std": 0.25, "resize_mode": "squash"}
    config = tmp_path / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": prepared}))
    state = world.RandomWeights(5).fill(layout(lambda: open_clip.CLIP(**TINY)))
    save_file(state, tmp_path / "tiny.safetensors")
    return SimpleNamespace(
        reward=lambda **compute: CLIPScore(tmp_path / "tiny.safetensors", config, Compute(**compute)),
        model=filled(lambda: open_clip.CLIP(**TINY), state),
        transform=open_clip.image_transform(32, is_train=False, **prepared),
    )


@pytest.fixture
def clip_file(tmp_path):
    """clip_file(**changes of its tensors) -> the path of a tiny CLIP, with its config tiny.json beside it."""
    import open_clip

    from _networks import TINY

    (tmp_path / "tiny.json").write_text(json.dumps({"model_cfg": TINY}))

    def write(**changes):
        save_file(open_clip.CLIP(**TINY).state_dict() | changes, tmp_path / "tiny.safetensors")
        return tmp_path / "tiny.safetensors"

    return write
