"""The tiny world of coloured shapes: its vocabulary, a classifier of its images, and adherence to a prompt.

    adherence(image, prompt) = 1 if argmax colour_head(image) = colour named by the prompt
                                and argmax shape_head(image) = shape named by the prompt, else 0

Each head has one class more than the vocabulary: "neither of these" (an empty picture, a colour outside the palette,
two shapes melted into one). Without it a spoiled picture would still be counted as one of the classes. The classifier
is for evaluation only: no reward that is trained on may share its weights or its training data.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError, quoted
from .networks.network import load_into
from .networks.weight_files import read_weights

COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("circle", "square", "triangle", "star")
BACKGROUNDS = ("dark", "light")
IMAGE_SIZE = 64
_WHAT = "the bundled classifier: reinstall the pack, or run tools/make_tiny.py"


def caption(colour: str, shape: str, background: str) -> str:
    """The canonical caption of one picture."""
    return f"a {colour} {shape} on a {background} background"


def canonical_captions() -> list[str]:
    """All 48 canonical captions; colour varies slowest, background fastest."""
    return [caption(c, s, b) for c in COLOURS for s in SHAPES for b in BACKGROUNDS]


def parse_caption(prompt: str) -> tuple[int, int]:
    """The indices into COLOURS and SHAPES of the colour and the shape that `prompt` names.

    ConfigError unless it names exactly one of each.
    """
    return _named(prompt, COLOURS, "colour"), _named(prompt, SHAPES, "shape")


def _named(prompt: str, words: Sequence[str], kind: str) -> int:
    said = set(re.findall(r"[a-z]+", prompt.lower()))
    found = [i for i, word in enumerate(words) if word in said]
    if len(found) != 1:
        count = "no" if not found else "more than one"
        raise ConfigError(
            f"prompt: {quoted(prompt)} names {count} {kind}: name exactly one of {', '.join(words)}, or "
            "disconnect Pave Tiny Adherence, which knows only such prompts"
        )
    return found[0]


class ShapeClassifier(nn.Module):
    """A network: images (N, 3, H, W) in [0, 1] -> logits (N, len(COLOURS) + 1) and (N, len(SHAPES) + 1).

    The last class is "neither of these". Sizes other than 64x64 are resampled (bilinear, anti-aliased).
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 3
        for out in (width, 2 * width, 3 * width, 4 * width):
            blocks += [nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            blocks += [nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.trunk = nn.Sequential(*blocks)  # (N, 4 width, 4, 4)
        self.colour_head = nn.Linear(2 * channels, len(COLOURS) + 1)
        self.shape_head = nn.Linear(2 * channels, len(SHAPES) + 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
            images = functional.interpolate(images, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True)
        h = self.trunk(images * 2 - 1)
        h = torch.cat((h.mean((2, 3)), h.amax((2, 3))), dim=1)  # (N, 8 width)
        return self.colour_head(h), self.shape_head(h)


def load_classifier(weights: Path) -> ShapeClassifier:
    """The classifier with weights from a file, in fp32 and evaluation mode. ConfigError where it does not fit."""
    classifier = ShapeClassifier()
    state = read_weights(weights, "weights")  # stored in half precision
    load_into(classifier, state, dtype=torch.float32, field="weights", path=weights, what=_WHAT)
    return classifier


class Adherence:
    """A reward of 1 where both colour and shape of the prompt are found in the image, else 0.

    weights: the classifier's file. batch_size: images in one pass.
    """

    name = "adherence"

    def __init__(self, weights: Path, batch_size: int = 64) -> None:
        self.classifier = load_classifier(weights)
        self.batch_size = batch_size

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) fp32, zeros and ones.

        ConfigError for a prompt that does not name one colour and one shape.
        """
        wanted_N2 = torch.tensor([parse_caption(prompt) for prompt in prompts])
        with torch.no_grad():
            found_N2 = torch.cat([self._classify(batch) for batch in images.split(self.batch_size)])
        return (found_N2 == wanted_N2).all(dim=1).float()

    def _classify(self, images: Tensor) -> Tensor:
        colour, shape = self.classifier(images.movedim(-1, 1).float())
        return torch.stack((colour.argmax(1), shape.argmax(1)), dim=1)  # (n, 2)
