"""The files of weights that network rewards need: what they are called, where to get them, and the drop-downs that pick them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from comfy_api.latest import io

from ..pave_core.rewards import aesthetic, hps, image_reward, pickscore
from ..pave_core.rewards.networks.weight_files import SUFFIXES
from .host import folders
from .schema import checked


@dataclass(frozen=True)
class WeightFile:
    """An input that picks a file of the reward models' folders."""

    field: str
    likely: tuple[str, ...]  # parts of the names under which people keep it, in small letters
    advice: str  # which file to get from where
    tooltip: str
    suffixes: tuple[str, ...] = SUFFIXES

    def input(self) -> io.Combo.Input:
        """The drop-down, on the likely file if it is there."""
        names = folders.reward_models(self.suffixes)
        found = folders.likely(names, self.likely)
        options = names if found else [folders.CHOOSE, *names]
        return io.Combo.Input(
            self.field,
            options=options,
            default=found or folders.CHOOSE,
            tooltip=f"{self.tooltip} Press R to refresh the list.",
        )

    def path(self, name: str) -> Path:
        """The file that was picked; ConfigError where there is none."""
        return folders.reward_model(self.field, name, self.advice, self.suffixes)


CLIP = WeightFile(
    "checkpoint",
    (),
    "an open_clip checkpoint, such as open_clip_model.safetensors of laion/CLIP-ViT-H-14-laion2B-s32B-b79K on Hugging Face,",
    "A CLIP checkpoint in models/reward_models, clip_vision or text_encoders.",
)
HPS = WeightFile(
    "checkpoint", ("hps_v2.1", "hps_v2"), f"{hps.FILE} of {hps.SOURCE} on Hugging Face", f"{hps.FILE} of {hps.SOURCE}."
)
PICKSCORE = WeightFile(
    "checkpoint",
    ("pickscore",),
    f"{pickscore.FILE} of {pickscore.SOURCE} on Hugging Face (as PickScore_v1.safetensors)",
    f"{pickscore.FILE} of {pickscore.SOURCE}; a good name for it is PickScore_v1.safetensors.",
)
HEAD = WeightFile(
    "checkpoint",
    ("sac+logos+ava1-l14",),
    f"{aesthetic.HEAD} of {aesthetic.HEAD_SOURCE} on GitHub",
    f"{aesthetic.HEAD} of {aesthetic.HEAD_SOURCE}.",
)
VIT_L = WeightFile(
    "clip_weights",
    ("clip-vit-large-patch14", "clip_vision_l", "vit-l-14"),
    f"{aesthetic.CLIP_FILE} of {aesthetic.CLIP_SOURCE} on Hugging Face (as clip-vit-large-patch14.safetensors)",
    "OpenAI's CLIP ViT-L/14, whole or its image half.",
)
HEAD_V25 = WeightFile(
    "checkpoint",
    ("aesthetic_predictor_v2_5",),
    f"{aesthetic.HEAD_V25} of {aesthetic.HEAD_V25_SOURCE} on GitHub",
    f"{aesthetic.HEAD_V25} of {aesthetic.HEAD_V25_SOURCE}.",
)
SIGLIP = WeightFile(
    "siglip_weights",
    ("siglip-so400m-patch14-384", "sigclip_vision_patch14_384", "siglip"),
    f"{aesthetic.SIGLIP_FILE} of {aesthetic.SIGLIP_SOURCE} on Hugging Face (as siglip-so400m-patch14-384.safetensors)",
    "SigLIP so400m/14 at 384, whole or its image half.",
)
IMAGE_REWARD = WeightFile(
    "checkpoint",
    ("imagereward",),
    f"{image_reward.FILE} of {image_reward.SOURCE} on Hugging Face",
    f"{image_reward.FILE} of {image_reward.SOURCE}.",
)
VOCABULARY = WeightFile(
    "vocabulary",
    ("vocab.txt", "tokenizer.json"),
    f"{image_reward.VOCABULARY} of {image_reward.VOCABULARY_SOURCE} on Hugging Face",
    "BERT's vocabulary: vocab.txt or tokenizer.json of bert-base-uncased, in models/reward_models.",
    (".txt", ".json"),
)


def found(*chosen: tuple[WeightFile, str | None]) -> bool | str:
    """For validate_inputs: True, or what is wrong with the first that is not there. None is an input that is linked: seen only when the node runs."""
    return checked(lambda: [file.path(name) for file, name in chosen if name is not None])
