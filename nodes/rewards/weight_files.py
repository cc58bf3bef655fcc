"""The weight files that network rewards need: their usual names, where to get them, and their drop-downs."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from comfy_api.latest import io

from ...pave_core.rewards import aesthetic, hps, image_reward, pickscore
from ...pave_core.rewards.networks.weight_files import SUFFIXES
from ..host import folders
from ..shared.schema import checked


@dataclass(frozen=True)
class WeightFile:
    """An input that picks a file from the folders for reward models.

    field: the input's name. likely: parts of the names under which people keep the file, in lower case, best first.
    advice: which file to get from where, for messages.
    """

    field: str
    likely: tuple[str, ...]
    _: KW_ONLY
    advice: str
    tooltip: str
    suffixes: tuple[str, ...] = SUFFIXES

    def input(self) -> io.Combo.Input:
        """The drop-down; its default is the likely file if there is one."""
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
        """The path of the file `name`, which was picked; ConfigError if there is none."""
        return folders.reward_model(self.field, name, self.advice, self.suffixes)


CLIP = WeightFile(
    "checkpoint",
    (),
    advice="an open_clip checkpoint, such as open_clip_model.safetensors of laion/CLIP-ViT-H-14-laion2B-s32B-b79K on "
    "Hugging Face,",
    tooltip="A CLIP checkpoint in models/reward_models, clip_vision or text_encoders.",
)
HPS = WeightFile(
    "checkpoint",
    ("hps_v2.1", "hps_v2"),
    advice=f"{hps.FILE} of {hps.SOURCE} on Hugging Face",
    tooltip=f"{hps.FILE} of {hps.SOURCE}.",
)
PICKSCORE = WeightFile(
    "checkpoint",
    ("pickscore",),
    advice=f"{pickscore.FILE} of {pickscore.SOURCE} on Hugging Face (as PickScore_v1.safetensors)",
    tooltip=f"{pickscore.FILE} of {pickscore.SOURCE}; a good name for it is PickScore_v1.safetensors.",
)
HEAD = WeightFile(
    "checkpoint",
    ("sac+logos+ava1-l14",),
    advice=f"{aesthetic.HEAD} of {aesthetic.HEAD_SOURCE} on GitHub",
    tooltip=f"{aesthetic.HEAD} of {aesthetic.HEAD_SOURCE}.",
)
VIT_L = WeightFile(
    "clip_weights",
    ("clip-vit-large-patch14", "clip_vision_l", "vit-l-14"),
    advice=f"{aesthetic.CLIP_FILE} of {aesthetic.CLIP_SOURCE} on Hugging Face (as clip-vit-large-patch14.safetensors)",
    tooltip="OpenAI's CLIP ViT-L/14, whole or its image half.",
)
HEAD_V25 = WeightFile(
    "checkpoint",
    ("aesthetic_predictor_v2_5",),
    advice=f"{aesthetic.HEAD_V25} of {aesthetic.HEAD_V25_SOURCE} on GitHub",
    tooltip=f"{aesthetic.HEAD_V25} of {aesthetic.HEAD_V25_SOURCE}.",
)
SIGLIP = WeightFile(
    "siglip_weights",
    ("siglip-so400m-patch14-384", "sigclip_vision_patch14_384", "siglip"),
    advice=f"{aesthetic.SIGLIP_FILE} of {aesthetic.SIGLIP_SOURCE} on Hugging Face (as "
    "siglip-so400m-patch14-384.safetensors)",
    tooltip="SigLIP so400m/14 at 384, whole or its image half.",
)
IMAGE_REWARD = WeightFile(
    "checkpoint",
    ("imagereward",),
    advice=f"{image_reward.FILE} of {image_reward.SOURCE} on Hugging Face",
    tooltip=f"{image_reward.FILE} of {image_reward.SOURCE}.",
)
VOCABULARY = WeightFile(
    "vocabulary",
    ("vocab.txt", "tokenizer.json"),
    advice=f"{image_reward.VOCABULARY} of {image_reward.VOCABULARY_SOURCE} on Hugging Face",
    tooltip="BERT's vocabulary: vocab.txt or tokenizer.json of bert-base-uncased, in models/reward_models.",
    suffixes=(".txt", ".json"),
)


def found(*chosen: tuple[WeightFile, str | None]) -> bool | str:
    """For validate_inputs: True, or the message about the first missing file. chosen: pairs of (input, name picked).

    None stands for a linked input, whose value is known only when the node runs.
    """
    return checked(lambda: [file.path(name) for file, name in chosen if name is not None])
