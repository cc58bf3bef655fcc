"""Pictures and captions of the tiny world, drawn on the fly from a seed.

A shape is a signed distance field d(p) in pixels (negative inside); its coverage of a pixel is clamp(1/2 - d, 0, 1),
which is an anti-aliased edge, and the picture is background + coverage * (colour - background). A blend of two shapes
is a blend of their distance fields, so it looks like the in-between forms that a half-trained generator makes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Generator, Tensor
from torch.nn import functional

from pave_core.rewards.shapes import BACKGROUNDS, COLOURS, IMAGE_SIZE, SHAPES, caption

PALETTE = torch.tensor(
    [
        [0.86, 0.12, 0.12],  # red
        [0.12, 0.62, 0.20],  # green
        [0.14, 0.26, 0.86],  # blue
        [0.94, 0.84, 0.14],  # yellow
        [0.56, 0.16, 0.70],  # purple
        [0.14, 0.78, 0.84],  # cyan
    ]
)
GREYS = torch.tensor([0.10, 0.88])  # dark, light
OUTSIDE_PALETTE = torch.tensor(
    [
        [0.50, 0.50, 0.50],  # grey
        [0.02, 0.02, 0.02],  # black
        [0.98, 0.98, 0.98],  # white
        [0.45, 0.28, 0.14],  # brown
        [0.96, 0.55, 0.10],  # orange
        [0.97, 0.62, 0.76],  # pink
    ]
)
COLOUR_JITTER = 0.05
# (corners, inner radius / outer radius, outer radius at size 1) of the star polygons; a regular n-gon has
# inner = cos(pi / n)
POLYGONS = {"square": (4, math.cos(math.pi / 4), 1.25), "triangle": (3, 0.5, 1.45), "star": (5, 0.42, 1.45)}
TEMPLATES = (
    "{colour} {shape} on a {background} background",
    "a {colour} {shape} on {background} background",
    "a picture of a {colour} {shape} on a {background} background",
    "a {colour} {shape}, {background} background",
    "{background} background with a {colour} {shape}",
)


@dataclass(frozen=True)
class Scenes:
    """What N pictures show: class indices (N,), centre (N, 2) and size (N,) in pixels, tilt (N,) in radians, colours.

    RGB values (N, 3) are in [0, 1].
    """

    colour: Tensor
    shape: Tensor
    background: Tensor
    centre: Tensor
    size: Tensor
    tilt: Tensor
    rgb: Tensor
    background_rgb: Tensor

    @property
    def caption_index(self) -> Tensor:
        """Index (N,) into canonical_captions()."""
        return (self.colour * len(SHAPES) + self.shape) * len(BACKGROUNDS) + self.background


def generator(seed: int) -> Generator:
    """A generator of random numbers on the CPU."""
    return Generator().manual_seed(seed)


def _uniform(rng: Generator, n: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=rng)


def draw_scenes(n: int, rng: Generator, smallest: float = 11.0, spread: float = 1.0) -> Scenes:
    """N scenes with classes, positions and sizes drawn uniformly; every shape lies wholly inside the picture.

    Sizes are `smallest` to 17 pixels; `spread` is the share of the free room around the centre that positions use.
    """
    colour = torch.randint(len(COLOURS), (n,), generator=rng)
    shape = torch.randint(len(SHAPES), (n,), generator=rng)
    background = torch.randint(len(BACKGROUNDS), (n,), generator=rng)
    size = _uniform(rng, n, smallest, 17.0)
    room = spread * (IMAGE_SIZE / 2 - 1.45 * size)  # (N,)
    centre = IMAGE_SIZE / 2 + room[:, None] * (2 * torch.rand(n, 2, generator=rng) - 1)
    jitter = COLOUR_JITTER * (2 * torch.rand(n, 4, generator=rng) - 1)
    rgb = (PALETTE[colour] + jitter[:, :3]).clamp(0, 1)
    background_rgb = (GREYS[background] + jitter[:, 3]).clamp(0, 1)[:, None].expand(n, 3)
    return Scenes(colour, shape, background, centre, size, _uniform(rng, n, -0.12, 0.12), rgb, background_rgb)


def distance(scenes: Scenes, shape: Tensor | None = None) -> Tensor:
    """Signed distance fields (N, 64, 64) in pixels; `shape` (N,) replaces the scenes' own shapes."""
    shape = scenes.shape if shape is None else shape
    axis = torch.arange(IMAGE_SIZE) + 0.5
    x = axis[None, None, :] - scenes.centre[:, 0, None, None]
    y = axis[None, :, None] - scenes.centre[:, 1, None, None]
    r = torch.sqrt(x * x + y * y)
    d = torch.empty(len(shape), IMAGE_SIZE, IMAGE_SIZE)
    for i, name in enumerate(SHAPES):
        of_kind = shape == i
        size = scenes.size[of_kind, None, None]
        if name == "circle":
            d[of_kind] = r[of_kind] - 1.05 * size
            continue
        corners, inner, outer = POLYGONS[name]
        angle = torch.atan2(x[of_kind], -y[of_kind]) + scenes.tilt[of_kind, None, None]  # 0 points up
        if name == "square":
            angle = angle + math.pi / 4
        sector = 2 * math.pi / corners
        # folded: corner at 0, notch at sector / 2
        angle = (torch.remainder(angle + sector / 2, sector) - sector / 2).abs()
        u, v = r[of_kind] * torch.cos(angle), r[of_kind] * torch.sin(angle)
        # the edge runs from (outer, 0) to inner * outer * (cos, sin)(sector / 2); its outward normal is (sin, -cos) of
        # its direction
        edge_u, edge_v = inner * math.cos(sector / 2) - 1, inner * math.sin(sector / 2)
        length = math.hypot(edge_u, edge_v)
        d[of_kind] = ((u - outer * size) * edge_v - v * edge_u) / length
    return d


def paint(scenes: Scenes, d: Tensor, softness: Tensor | float = 1.0) -> Tensor:
    """Pictures (N, 3, 64, 64) in [0, 1] of the distance fields d (N, 64, 64); the edge is `softness` pixels wide."""
    coverage = (0.5 - d / softness).clamp(0, 1)[:, None]
    background = scenes.background_rgb[:, :, None, None]
    return background + coverage * (scenes.rgb[:, :, None, None] - background)


def render(scenes: Scenes) -> Tensor:
    """Clean pictures (N, 3, 64, 64) in [0, 1]."""
    return paint(scenes, distance(scenes))


def caption_indices() -> Iterator[tuple[int, int, int]]:
    """The indices of colour, shape and background of every caption, in the canonical order."""
    return product(range(len(COLOURS)), range(len(SHAPES)), range(len(BACKGROUNDS)))


def phrase(colour: int, shape: int, background: int, rng: Generator, variety: float = 0.3) -> str:
    """The canonical caption, or with probability `variety` another wording of it."""
    words = {"colour": COLOURS[colour], "shape": SHAPES[shape], "background": BACKGROUNDS[background]}
    if float(torch.rand((), generator=rng)) >= variety:
        return caption(**words)
    return TEMPLATES[int(torch.randint(len(TEMPLATES), (), generator=rng))].format(**words)


def roughen(images: Tensor, rng: Generator) -> Tensor:
    """Give each picture, by chance, the faults of samples: blur, colour stains, pixel noise, another contrast."""
    n = len(images)

    def by_chance(limit: float) -> Tensor:
        """A strength (n, 1, 1, 1) for each picture: 0 for half of them, up to `limit` for the others."""
        return (_uniform(rng, n, 0.0, limit) * (torch.rand(n, generator=rng) < 0.5))[:, None, None, None]

    blurred = functional.avg_pool2d(functional.pad(images, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    images = torch.lerp(images, blurred, by_chance(1.0))
    stains = functional.interpolate(torch.randn(n, 3, 8, 8, generator=rng), images.shape[-2:], mode="bicubic")
    images = images + stains * by_chance(0.08)
    images = images + torch.randn(images.shape, generator=rng) * by_chance(0.06)
    contrast = _uniform(rng, n, 0.85, 1.1)[:, None, None, None]
    return ((images - 0.5) * contrast + 0.5).clamp(0, 1)
