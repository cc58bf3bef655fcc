"""Rewards by networks whose weights are the user's own files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from comfy_api.latest import io

from ..pave_core.rewards import aesthetic, hps, image_reward, pickscore
from ..pave_core.rewards.clip_score import CLIPScore
from ..pave_core.rewards.networks.clip_config import architectures
from ..pave_core.rewards.networks.compute import PRECISIONS, Compute
from ..pave_core.rewards.networks.weight_files import SUFFIXES
from . import schema
from .host import folders, tiny
from .host.placement import visiting
from .schema import advanced, checked

BUNDLED = "bundled tiny CLIP"
AUTO = "auto"


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
        return io.Combo.Input(self.field, options=options, default=found or folders.CHOOSE, tooltip=f"{self.tooltip} Press R to refresh the list.")

    def path(self, name: str) -> Path:
        """The file that was picked; ConfigError where there is none."""
        return folders.reward_model(self.field, name, self.advice, self.suffixes)


CLIP = WeightFile(
    "checkpoint",
    (),
    "an open_clip checkpoint, such as open_clip_model.safetensors of laion/CLIP-ViT-H-14-laion2B-s32B-b79K on Hugging Face,",
    "A CLIP checkpoint in models/reward_models, clip_vision or text_encoders.",
)
HPS = WeightFile("checkpoint", ("hps_v2.1", "hps_v2"), f"{hps.FILE} of {hps.SOURCE} on Hugging Face", f"{hps.FILE} of {hps.SOURCE}.")
PICKSCORE = WeightFile(
    "checkpoint",
    ("pickscore",),
    f"{pickscore.FILE} of {pickscore.SOURCE} on Hugging Face (as PickScore_v1.safetensors)",
    f"{pickscore.FILE} of {pickscore.SOURCE}; a good name for it is PickScore_v1.safetensors.",
)
HEAD = WeightFile(
    "checkpoint", ("sac+logos+ava1-l14",), f"{aesthetic.HEAD} of {aesthetic.HEAD_SOURCE} on GitHub", f"{aesthetic.HEAD} of {aesthetic.HEAD_SOURCE}."
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
    "checkpoint", ("imagereward",), f"{image_reward.FILE} of {image_reward.SOURCE} on Hugging Face", f"{image_reward.FILE} of {image_reward.SOURCE}."
)
VOCABULARY = WeightFile(
    "vocabulary",
    ("vocab.txt", "tokenizer.json"),
    f"{image_reward.VOCABULARY} of {image_reward.VOCABULARY_SOURCE} on Hugging Face",
    "BERT's vocabulary: vocab.txt or tokenizer.json of bert-base-uncased, in models/reward_models.",
    (".txt", ".json"),
)


def _found(*chosen: tuple[WeightFile, str | None]) -> bool | str:
    """For validate_inputs: True, or what is wrong with the first that is not there. None is an input that is linked: seen only when the node runs."""
    return checked(lambda: [file.path(name) for file, name in chosen if name is not None])


def _compute_inputs(batch_size: int = 16) -> list[io.Input]:
    return [
        advanced(
            io.Combo.Input("precision", options=list(PRECISIONS), default="fp32", tooltip="The number format of the network. bf16 halves its memory.")
        ),
        advanced(
            io.Int.Input(
                "batch_size", default=batch_size, min=1, max=1024, tooltip="Images scored in one call. Lower it if scoring runs out of memory."
            )
        ),
    ]


class PaveCLIPScore(io.ComfyNode):
    """How well an image fits its prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveCLIPScore",
            "Pave CLIP Score",
            terms=["open_clip", "prompt adherence", "text image similarity"],
            description="Reward: how well the image fits its prompt, by an open_clip model (cosine of image and text features). Put "
            "checkpoints into models/reward_models.",
            inputs=[
                io.Combo.Input(
                    "checkpoint", options=[BUNDLED, *folders.reward_models()], default=BUNDLED, tooltip=f"{CLIP.tooltip} Press R to refresh the list."
                ),
                io.Combo.Input(
                    "architecture",
                    options=[AUTO, *architectures()],
                    default=AUTO,
                    tooltip="The checkpoint's architecture. auto reads open_clip_config.json, or <checkpoint>.json, beside the file. OpenAI's "
                    "weights need a name that ends in -quickgelu.",
                ),
                *_compute_inputs(),
            ],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        return _found((CLIP, None if checkpoint == BUNDLED else checkpoint))

    @classmethod
    def execute(cls, checkpoint: str, architecture: str, precision: str, batch_size: int) -> io.NodeOutput:
        weights = tiny.OPEN_CLIP_MODEL if checkpoint == BUNDLED else CLIP.path(checkpoint)
        chosen = folders.clip_config(weights) if architecture == AUTO or checkpoint == BUNDLED else architecture
        return io.NodeOutput(CLIPScore(weights, chosen, Compute(visiting, precision, batch_size)))


class PaveHPSv2(io.ComfyNode):
    """What people prefer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveHPSv2",
            "Pave HPS v2.1",
            terms=["human preference score", "hpsv2", "preference"],
            description=f"Reward: human preference, HPSv2.1. Needs {hps.FILE} of {hps.SOURCE} (Hugging Face) in models/reward_models. Alone it "
            "makes images oily and bright: mix it with Pave CLIP Score, 0.7 to 1.4.",
            inputs=[HPS.input(), *_compute_inputs()],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        return _found((HPS, checkpoint))

    @classmethod
    def execute(cls, checkpoint: str, precision: str, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(hps.HPSv2(HPS.path(checkpoint), Compute(visiting, precision, batch_size)))


class PavePickScore(io.ComfyNode):
    """What people pick."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PavePickScore",
            "Pave PickScore",
            terms=["pick-a-pic", "human preference", "pickapic"],
            description=f"Reward: which image people would pick for the prompt, PickScore v1. Needs {pickscore.FILE} of {pickscore.SOURCE} (Hugging "
            "Face) in models/reward_models. It keeps realism well.",
            inputs=[PICKSCORE.input(), *_compute_inputs()],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        return _found((PICKSCORE, checkpoint))

    @classmethod
    def execute(cls, checkpoint: str, precision: str, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(pickscore.PickScore(PICKSCORE.path(checkpoint), Compute(visiting, precision, batch_size)))


class PaveAesthetic(io.ComfyNode):
    """How beautiful an image is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveAesthetic",
            "Pave Aesthetic v2",
            terms=["laion aesthetic", "beauty", "improved aesthetic predictor"],
            description=f"Reward: LAION's aesthetic score, 0 to 10, whatever the prompt. Needs {aesthetic.HEAD} and OpenAI's CLIP ViT-L/14 in "
            "models/reward_models. Easy to flatter: mix it with a reward that reads the prompt.",
            inputs=[HEAD.input(), VIT_L.input(), *_compute_inputs()],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None, clip_weights: str | None = None) -> bool | str:
        return _found((HEAD, checkpoint), (VIT_L, clip_weights))

    @classmethod
    def execute(cls, checkpoint: str, clip_weights: str, precision: str, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(aesthetic.Aesthetic(HEAD.path(checkpoint), VIT_L.path(clip_weights), Compute(visiting, precision, batch_size)))


class PaveAestheticV25(io.ComfyNode):
    """How beautiful an image is, by SigLIP."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveAestheticV25",
            "Pave Aesthetic v2.5",
            terms=["siglip aesthetic", "beauty", "aesthetic predictor"],
            description=f"Reward: the aesthetic score v2.5, 1 to 10, whatever the prompt; from 5.5 on an image is great. Needs "
            f"{aesthetic.HEAD_V25} and {aesthetic.SIGLIP_SOURCE} in models/reward_models. Mix it with a reward that reads the prompt.",
            inputs=[HEAD_V25.input(), SIGLIP.input(), *_compute_inputs(8)],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None, siglip_weights: str | None = None) -> bool | str:
        return _found((HEAD_V25, checkpoint), (SIGLIP, siglip_weights))

    @classmethod
    def execute(cls, checkpoint: str, siglip_weights: str, precision: str, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(aesthetic.AestheticV25(HEAD_V25.path(checkpoint), SIGLIP.path(siglip_weights), Compute(visiting, precision, batch_size)))


class PaveImageReward(io.ComfyNode):
    """What people prefer, by a network that reads the prompt with the image in view."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveImageReward",
            "Pave ImageReward",
            terms=["blip", "human preference", "image reward"],
            description=f"Reward: human preference, ImageReward v1.0. Needs {image_reward.FILE} of {image_reward.SOURCE} and "
            f"{image_reward.VOCABULARY} of bert-base-uncased (Hugging Face) in models/reward_models. Do not train on it alone.",
            inputs=[IMAGE_REWARD.input(), VOCABULARY.input(), *_compute_inputs()],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None, vocabulary: str | None = None) -> bool | str:
        return _found((IMAGE_REWARD, checkpoint), (VOCABULARY, vocabulary))

    @classmethod
    def execute(cls, checkpoint: str, vocabulary: str, precision: str, batch_size: int) -> io.NodeOutput:
        compute = Compute(visiting, precision, batch_size)
        return io.NodeOutput(image_reward.ImageReward(IMAGE_REWARD.path(checkpoint), VOCABULARY.path(vocabulary), compute))


NODES = [PaveCLIPScore, PaveHPSv2, PavePickScore, PaveAesthetic, PaveAestheticV25, PaveImageReward]
