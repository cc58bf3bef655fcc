"""What a person likes, learnt from answers: a linear head on the image features of a CLIP.

s(image) = w . phi                     phi = sqrt(D) f / |f|, f (D,): the CLIP's features of the image

P(a is liked better than b) = sigmoid(w . (phi_a - phi_b))                             Bradley and Terry (1952)

w = argmax  sum over (i, j) in pairs of log sigmoid(w . (phi_i - phi_j))  -  |w - m|^2 / (2 v)

pairs: of all answers (Choice.pairs), each counted once: to count a click on one of n as less than n - 1 pairs predicted
worse (docs/LOG.md). m: the weights of a taste that was known before, or 0. v: the prior's variance, of a few that is
chosen by what it predicts of answers that are held out, in units in which a question's images differ by 1.

How sure that is: the posterior is about a Gaussian of covariance S (Laplace), and with MacKay's correction (1992)

P(a is liked better than b) = sigmoid(mu / sqrt(1 + pi s^2 / 8))         mu = w . d, s^2 = d^T S d, d = phi_a - phi_b

What is learnt lies in the directions in which the images of a question differ most, RANK of them; in all others the
posterior is the prior.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError
from ..files import require_header, write_atomically
from ..rewards.clip_score import describe_open_clip, load_open_clip
from ..rewards.networks.compute import ON_CPU, Compute
from ..rewards.networks.weight_files import file_record
from ..seeds import seeded
from .bradley_terry import curvature, most_likely
from .choice import Choice

RANK = 96
WIDTHS = (0.5, 1.0, 2.0, 4.0)
"""Standard deviations of the scores of a question's images under the prior, of which one is chosen."""
FOLDS = 5
METADATA = "pave_taste"
SAME = 0.98
"""The least cosine of two networks' features of one picture to be taken for the same: precisions differ by less."""
PORTION = 64
"""Images whose features are computed at once."""


class ClipFeatures:
    """phi of images, by a CLIP. weights, architecture: as of load_open_clip."""

    def __init__(self, weights: Path, architecture: str | Path, compute: Compute = ON_CPU) -> None:
        self._clip = load_open_clip(weights, architecture, compute)
        self._described = describe_open_clip(weights, architecture, compute)
        self._probe: Tensor | None = None

    def describe(self) -> dict[str, object]:
        """The CLIP, for recipes."""
        return self._described

    def __call__(self, images: Tensor) -> Tensor:
        """images (N, H, W, 3) in [0, 1] or in 8 bits -> phi (N, D) fp32 on the CPU."""
        parts = images.split(PORTION)
        found = [self._clip.image_features(x / 255 if x.dtype == torch.uint8 else x) for x in parts]
        phi = torch.cat(found)
        return phi * math.sqrt(phi.shape[1])

    @property
    def probe(self) -> Tensor:
        """phi (D,) of one fixed picture, by which the network is known again, whatever file it is in."""
        if self._probe is None:
            ramp = torch.linspace(0, 1, 96)
            picture = torch.stack(torch.broadcast_tensors(ramp[:, None], ramp, (6 * ramp).sin().abs()), -1)
            self._probe = self(picture[None])[0]
        return self._probe


@dataclass(frozen=True)
class Accuracy:
    """How well answers that were held out are predicted: of the pairs of a question, the share that is ordered as the
    person did, as a mean over the questions.
    """

    share: float
    se: float  # standard error
    questions: int


@dataclass(frozen=True, eq=False)
class Taste:
    """What was learnt. scores() and prefers() take features phi."""

    weight: Tensor  # w (D,)
    basis: Tensor  # (D, r), orthonormal: the directions in which something was learnt
    factor: Tensor  # (r, r) L: S = L L^T in the basis
    variance: float  # v: that of w in every other direction
    probe: Tensor  # of the CLIP, see ClipFeatures
    clip: Mapping[str, Any]  # ClipFeatures.describe()
    choices: int  # answers that it was learnt from
    accuracy: Accuracy | None  # None where there were too few answers

    def scores(self, phi: Tensor) -> Tensor:
        """phi (..., D) -> (...): log odds, of which only differences have a meaning."""
        return phi @ self.weight

    def prefers(self, phi_a: Tensor, phi_b: Tensor) -> Tensor:
        """P(a is liked better than b): (...) for phi_a, phi_b (..., D)."""
        d = phi_a - phi_b
        inside = d @ self.basis
        outside = (d.square().sum(-1) - inside.square().sum(-1)).clamp(min=0)
        variance = (inside @ self.factor).square().sum(-1) + self.variance * outside
        return torch.sigmoid(self.scores(d) / (1 + math.pi / 8 * variance).sqrt())

    def sureness(self, phi: Tensor) -> float:
        """How sure it is of the best of n images with phi (n, D): the mean of P(best is liked better) over the others.

        That is the share of the pairs of a click on one image that it expects to order as the person will, and so
        stands beside `accuracy`.
        """
        best = self.scores(phi).argmax()
        others = torch.arange(len(phi)) != best
        return self.prefers(phi[best], phi[others]).mean().item()

    def save(self, path: Path) -> None:
        """Write it to `path` (.safetensors). WriteError if the disk refuses."""
        said = {"clip": dict(self.clip), "choices": self.choices, "variance": self.variance}
        accuracy = None if self.accuracy is None else vars(self.accuracy)
        tensors = {name: getattr(self, name).contiguous() for name in ("weight", "basis", "factor", "probe")}
        metadata = {"format": "pt", METADATA: json.dumps(said | {"accuracy": accuracy})}
        write_atomically(path, save(tensors, metadata=metadata))

    @classmethod
    def load(cls, path: Path, features: ClipFeatures) -> Taste:
        """The inverse of save(). ConfigError for what is no taste, or was learnt with another CLIP than `features`."""
        require_header(path, "taste")
        try:
            with safe_open(path, framework="pt") as file:
                said = json.loads((file.metadata() or {})[METADATA])
                tensors = {name: file.get_tensor(name).float() for name in ("weight", "basis", "factor", "probe")}
            taste = cls(
                **tensors,
                variance=float(said["variance"]),
                clip=dict(said["clip"]),
                choices=int(said["choices"]),
                accuracy=None if said["accuracy"] is None else Accuracy(**said["accuracy"]),
            )
            taste._check()
        except (OSError, RuntimeError, SafetensorError, ValueError, TypeError, LookupError, RecursionError) as error:
            raise ConfigError(
                f"taste: {path.name} is damaged, or no taste that this pack has saved ({error}): choose another file"
            ) from error
        own = features.probe
        if taste.probe.shape != own.shape or not F.cosine_similarity(taste.probe, own, dim=0) >= SAME:
            wanted = f"{taste.clip.get('weights')}, {taste.clip.get('architecture')}"
            raise ConfigError(f"taste: {path.name} was learnt with another CLIP: choose that one ({wanted})")
        return taste

    def _check(self) -> None:
        (D,), r = self.weight.shape, self.basis.shape[1]
        shapes = (self.basis.shape, self.factor.shape, self.probe.shape) == ((D, r), (r, r), (D,))
        values = (self.weight, self.basis, self.factor, self.probe)
        if not shapes or not all(bool(each.isfinite().all()) for each in values) or not self.variance > 0:
            raise ValueError("wrong shapes or values")


@dataclass(frozen=True)
class _Pairs:
    """All pairs of all answers, in the basis and in units in which a question's images differ by 1."""

    differences: Tensor  # (M, r)
    offsets: Tensor  # (M,) what the taste from before says
    question: Tensor  # (M,) the number of the pair's question


def learn_taste(
    answers: Sequence[tuple[Tensor, Choice]], features: ClipFeatures, before: Taste | None = None
) -> Taste | None:
    """The taste that follows from answers, each (phi (n, D) of its images, the choice), the oldest first.

    before: what was known. None where nothing was compared.
    """
    answers = [(phi, choice) for phi, choice in answers if choice.pairs()]
    if not answers:
        return before
    centred = torch.cat([phi - phi.mean(0) for phi, _ in answers])
    basis = _directions(centred)
    unit = centred.square().sum(1).mean().sqrt().clamp(min=1e-6).item()
    pairs = _pairs(answers, basis=basis, unit=unit, before=before)
    width, held_out = _chosen_width(pairs, len(answers))
    u = _fitted(pairs, width)
    logits = pairs.offsets + pairs.differences @ u
    precision = (
        curvature(pairs.differences, torch.sigmoid(logits) * torch.sigmoid(-logits)) + torch.eye(len(u)) / width**2
    )
    factor = torch.linalg.inv(torch.linalg.cholesky(precision)).T / unit
    weight = basis @ u / unit
    return Taste(
        weight=weight if before is None else weight + before.weight,
        basis=basis,
        factor=factor,
        variance=(width / unit) ** 2,
        probe=features.probe,
        clip=features.describe(),
        choices=len(answers) + (0 if before is None else before.choices),
        accuracy=held_out,
    )


def _directions(centred: Tensor) -> Tensor:
    """(D, r), orthonormal: those in which rows (N, D) differ most; all of them where they are at most RANK."""
    N, D = centred.shape
    if D <= RANK:
        return torch.eye(D)
    basis = centred.T if N <= RANK else centred.T @ torch.randn(N, RANK, generator=seeded(0, "taste"))
    for _ in range(2):
        basis = torch.linalg.qr(centred.T @ (centred @ basis)).Q
    return basis


def _pairs(answers: Sequence[tuple[Tensor, Choice]], *, basis: Tensor, unit: float, before: Taste | None) -> _Pairs:
    parts = []
    for number, (phi, choice) in enumerate(answers):
        better, worse = torch.tensor(choice.pairs()).T
        own = (phi @ basis) / unit
        known = torch.zeros(len(phi)) if before is None else before.scores(phi)
        parts.append((own[better] - own[worse], known[better] - known[worse], torch.full_like(better, number)))
    return _Pairs(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _fitted(pairs: _Pairs, width: float, among: Tensor | None = None, start: Tensor | None = None) -> Tensor:
    """u (r,) of the pairs, or of those in the mask `among` (M,)."""
    at = slice(None) if among is None else among
    return most_likely(pairs.differences[at], offsets=pairs.offsets[at], variance=width**2, start=start)


def _chosen_width(pairs: _Pairs, questions: int) -> tuple[float, Accuracy | None]:
    """The width of WIDTHS with the highest likelihood of answers that are held out in turn, and its accuracy.

    1 and None where there are fewer answers than FOLDS.
    """
    if questions < FOLDS:
        return 1.0, None
    best, chosen, right = -math.inf, 1.0, torch.zeros(0)
    counts = torch.zeros(questions).index_add_(0, pairs.question, torch.ones(len(pairs.question)))
    for width in WIDTHS:
        start = _fitted(pairs, width)
        logits = torch.zeros(len(pairs.question))
        for fold in range(FOLDS):
            out = pairs.question % FOLDS == fold
            logits[out] = pairs.offsets[out] + pairs.differences[out] @ _fitted(pairs, width, ~out, start)

        def of_questions(values: Tensor) -> Tensor:
            return torch.zeros(questions).index_add_(0, pairs.question, values) / counts

        likelihood = of_questions(F.logsigmoid(logits)).mean().item()
        if likelihood > best:
            best, chosen, right = likelihood, width, of_questions((logits.sign() + 1) / 2)
    return chosen, Accuracy(right.mean().item(), right.std().item() / math.sqrt(questions), questions)


class TasteReward:
    """A taste as a reward of its own, from its file and the CLIP that it was learnt with."""

    name = "taste"

    def __init__(self, path: Path, features: ClipFeatures) -> None:
        self._features, self.taste = features, Taste.load(path, features)
        self._described = {"taste": file_record(path), **features.describe()}

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return self._described

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] -> (N,) fp32 log odds; the prompts do not matter."""
        return self.taste.scores(self._features(images))
