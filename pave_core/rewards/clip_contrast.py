"""CLIP contrast: how much better an image fits its own prompt than other prompts, by any open_clip model.

    z_j = s <f(image) / |f(image)|, g(t_j) / |g(t_j)|>          t_0 the image's prompt, t_1 ... t_M the others
    r   = z_0 - log sum_{j = 0..M} exp z_j                      log softmax(z)_0, in (-inf, 0]

the log-probability with which CLIP picks the image's caption among M + 1: minus its own loss for an image (InfoNCE,
arXiv 1807.03748, eq. 4; CLIP, arXiv 2103.00020, figure 3). The cosine of the CLIP score also rises with what every
prompt has in common; the contrast rises only with what tells the prompt from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError, quoted
from .clip_score import describe_open_clip, load_open_clip
from .networks.compute import ON_CPU, Compute


class CLIPContrast:
    """CLIP contrast as a reward: each image's prompt against all of `against`, repetitions and the prompt left out.

    weights, architecture: as of load_open_clip. scale: s; None: the factor that the network was trained with.
    ConfigError where `against` leaves a prompt nothing to be told from, or scale is not above 0.
    """

    name = "clip contrast"

    def __init__(
        self,
        weights: Path,
        architecture: str | Path,
        compute: Compute = ON_CPU,
        *,
        against: Sequence[str],
        scale: float | None = None,
    ) -> None:
        self._against = tuple(dict.fromkeys(against))
        if not self._against:
            raise ConfigError(
                "against: there are no other prompts: write wrong ones, one a line, or connect the run's prompts"
            )
        if scale is not None and not scale > 0:
            raise ConfigError(f"scale: {scale} is not above 0: leave it to the network, or use CLIP's 100")
        self._clip = load_open_clip(weights, architecture, compute)
        self._scale = self._clip.scale if scale is None else scale
        described = describe_open_clip(weights, architecture, compute)
        self._described = described | {"against": list(self._against), "scale": self._scale}

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return self._described

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) fp32 log-probabilities.

        ConfigError for a prompt that is the only one of `against`.
        """
        if self._against in {(prompt,) for prompt in prompts}:
            raise ConfigError(f"against: {quoted(self._against[0])} is the image's own prompt: give others besides")
        image_ND, text = self._clip.features(images, [*prompts, *self._against])
        own_ND, other_MD = text[: len(prompts)], text[len(prompts) :]
        own_N = self._scale * (image_ND * own_ND).sum(1)
        other_NM = self._scale * image_ND @ other_MD.T
        is_own_NM = torch.tensor([[prompt == other for other in self._against] for prompt in prompts])
        z_NM1 = torch.cat((own_N[:, None], other_NM.masked_fill(is_own_NM, float("-inf"))), 1)
        return own_N - z_NM1.logsumexp(1)
