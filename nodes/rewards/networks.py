"""Rewards as nodes: by networks whose weights are the user's own files."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ...pave_core.rewards import aesthetic, hps, image_reward, pickscore
from ...pave_core.rewards.clip_contrast import CLIPContrast
from ...pave_core.rewards.clip_score import CLIPScore
from ...pave_core.rewards.networks.clip_config import architectures
from ...pave_core.rewards.networks.compute import PRECISIONS, Compute
from ...pave_core.rollout.prompts import PromptSet, check_prompts, parse_prompts
from ..host import folders, tiny
from ..host.memory import free_caches
from ..host.placement import visiting
from ..shared import schema
from ..shared.schema import advanced
from .weight_files import CLIP, HEAD, HEAD_V25, HPS, IMAGE_REWARD, PICKSCORE, SIGLIP, VIT_L, VOCABULARY, found

BUNDLED = "bundled tiny CLIP"
AUTO = "auto"


def _compute_inputs(batch_size: int = 16) -> list[io.Input]:
    """The inputs of a Compute."""
    return [
        advanced(
            io.Combo.Input(
                "precision",
                options=list(PRECISIONS),
                default="fp32",
                tooltip="bf16 halves the memory of the scoring network (ViT-H: 4 GB to 2), and scores almost the "
                "same: its number format.",
            )
        ),
        advanced(
            io.Int.Input(
                "batch_size",
                default=batch_size,
                min=1,
                max=1024,
                tooltip="Lower it if scoring runs out of memory; scores stay the same. Images scored in one call.",
            )
        ),
    ]


def clip_inputs() -> list[io.Input]:
    """The inputs that choose an open_clip model."""
    return [
        io.Combo.Input(
            "checkpoint",
            options=[BUNDLED, *folders.reward_models()],
            default=BUNDLED,
            tooltip=f"{CLIP.tooltip} Press R to refresh the list.",
        ),
        io.Combo.Input(
            "architecture",
            options=[AUTO, *architectures()],
            default=AUTO,
            tooltip="Must fit the checkpoint, or it is refused: its architecture. auto reads open_clip_config.json, or "
            "<checkpoint>.json, beside the file. OpenAI's weights need a name that ends in -quickgelu.",
        ),
    ]


def chosen_clip(checkpoint: str, architecture: str) -> tuple[Path, str | Path]:
    """The weights and the architecture that clip_inputs choose."""
    weights = tiny.OPEN_CLIP_MODEL if checkpoint == BUNDLED else CLIP.path(checkpoint)
    return weights, folders.clip_config(weights) if architecture == AUTO or checkpoint == BUNDLED else architecture


def made_compute(precision: str, batch_size: int) -> Compute:
    return Compute(visiting, precision, batch_size, free_caches)


class PaveCLIPScore(io.ComfyNode):
    """How well an image fits its prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveCLIPScore",
            "Pave CLIP Score",
            terms=["open_clip", "prompt adherence", "text image similarity"],
            description="Reward: how well the image fits its prompt, by an open_clip model (cosine of image and text "
            "features). Put checkpoints into models/reward_models.",
            inputs=[*clip_inputs(), *_compute_inputs()],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        return found((CLIP, None if checkpoint == BUNDLED else checkpoint))

    @classmethod
    def execute(cls, checkpoint: str, architecture: str, precision: str, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(CLIPScore(*chosen_clip(checkpoint, architecture), made_compute(precision, batch_size)))


class PaveCLIPContrast(io.ComfyNode):
    """How much better an image fits its prompt than other prompts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveCLIPContrast",
            "Pave CLIP Contrast",
            terms=["open_clip", "prompt adherence", "infonce", "wrong prompts", "classifier"],
            description="Reward: how surely an open_clip model picks the image's own prompt among others, as a "
            "log-probability. Teaches what tells prompts apart, such as colour, number and kind. Put checkpoints into "
            "models/reward_models.",
            inputs=[
                *clip_inputs(),
                io.String.Input(
                    "against",
                    multiline=True,
                    default="",
                    tooltip="What it must not be taken for, which is what is learnt to tell apart: wrong prompts, "
                    "one per line, such as the same with another colour. May be empty if prompts is connected.",
                ),
                schema.Prompts.Input(
                    "prompts",
                    optional=True,
                    tooltip="The prompts of the run, as wrong prompts for each other: each image's is told from all "
                    "the others that are trained on.",
                ),
                advanced(
                    io.Float.Input(
                        "scale",
                        default=0.0,
                        min=0.0,
                        max=1000.0,
                        step=0.1,
                        tooltip="Lower it if the reward is near 0 for almost all images. The factor on the cosines "
                        "before the softmax; 0 takes the network's own, which is 100 for most.",
                    )
                ),
                *_compute_inputs(),
            ],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        return found((CLIP, None if checkpoint == BUNDLED else checkpoint))

    @classmethod
    def execute(
        cls,
        checkpoint: str,
        architecture: str,
        against: str,
        scale: float,
        precision: str,
        batch_size: int,
        prompts: PromptSet | None = None,
    ) -> io.NodeOutput:
        others = [*parse_prompts(against), *(prompts.train if prompts else ())]
        check_prompts("against", others)
        clip, compute = chosen_clip(checkpoint, architecture), made_compute(precision, batch_size)
        return io.NodeOutput(CLIPContrast(*clip, compute, against=others, scale=scale or None))


class PaveHPSv2(io.ComfyNode):
    """What people prefer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveHPSv2",
            "Pave HPS v2.1",
            terms=["human preference score", "hpsv2", "preference"],
            description=f"Reward: human preference, HPSv2.1. Needs {hps.FILE} of {hps.SOURCE} (Hugging Face) in "
            "models/reward_models. Alone it makes images oily and bright: mix it with Pave CLIP Score.",
            inputs=[HPS.input(), *_compute_inputs()],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        return found((HPS, checkpoint))

    @classmethod
    def execute(cls, checkpoint: str, precision: str, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(hps.HPSv2(HPS.path(checkpoint), made_compute(precision, batch_size)))


class PavePickScore(io.ComfyNode):
    """What people pick."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PavePickScore",
            "Pave PickScore",
            terms=["pick-a-pic", "human preference", "pickapic"],
            description="Reward: which image people would pick for the prompt, PickScore v1. Needs "
            f"{pickscore.FILE} of {pickscore.SOURCE} (Hugging Face) in models/reward_models. It keeps realism well.",
            inputs=[PICKSCORE.input(), *_compute_inputs()],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None) -> bool | str:
        return found((PICKSCORE, checkpoint))

    @classmethod
    def execute(cls, checkpoint: str, precision: str, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(pickscore.PickScore(PICKSCORE.path(checkpoint), made_compute(precision, batch_size)))


class PaveAesthetic(io.ComfyNode):
    """How beautiful an image is."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveAesthetic",
            "Pave Aesthetic v2",
            terms=["laion aesthetic", "beauty", "improved aesthetic predictor"],
            description=f"Reward: LAION's aesthetic score, 0 to 10, whatever the prompt. Needs {aesthetic.HEAD} and "
            "OpenAI's CLIP ViT-L/14 in models/reward_models. Easy to fool: mix it with a reward that reads the "
            "prompt.",
            inputs=[HEAD.input(), VIT_L.input(), *_compute_inputs()],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None, clip_weights: str | None = None) -> bool | str:
        return found((HEAD, checkpoint), (VIT_L, clip_weights))

    @classmethod
    def execute(cls, checkpoint: str, clip_weights: str, precision: str, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(
            aesthetic.Aesthetic(HEAD.path(checkpoint), VIT_L.path(clip_weights), made_compute(precision, batch_size))
        )


class PaveAestheticV25(io.ComfyNode):
    """How beautiful an image is, by a SigLIP network."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveAestheticV25",
            "Pave Aesthetic v2.5",
            terms=["siglip aesthetic", "beauty", "aesthetic predictor"],
            description="Reward: the aesthetic score v2.5, 1 to 10, whatever the prompt; 5.5 and above is great. "
            f"Needs {aesthetic.HEAD_V25} and {aesthetic.SIGLIP_SOURCE} in models/reward_models. Mix it with a reward "
            "that reads the prompt.",
            inputs=[HEAD_V25.input(), SIGLIP.input(), *_compute_inputs(8)],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None, siglip_weights: str | None = None) -> bool | str:
        return found((HEAD_V25, checkpoint), (SIGLIP, siglip_weights))

    @classmethod
    def execute(cls, checkpoint: str, siglip_weights: str, precision: str, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput(
            aesthetic.AestheticV25(
                HEAD_V25.path(checkpoint), SIGLIP.path(siglip_weights), made_compute(precision, batch_size)
            )
        )


class PaveImageReward(io.ComfyNode):
    """What people prefer, by a network that reads the prompt with the image in view."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveImageReward",
            "Pave ImageReward",
            terms=["blip", "human preference", "image reward"],
            description=f"Reward: human preference, ImageReward v1.0. Needs {image_reward.FILE} of "
            f"{image_reward.SOURCE} and {image_reward.VOCABULARY} of bert-base-uncased (Hugging Face) in "
            "models/reward_models. Do not train on it alone.",
            inputs=[IMAGE_REWARD.input(), VOCABULARY.input(), *_compute_inputs()],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, checkpoint: str | None = None, vocabulary: str | None = None) -> bool | str:
        return found((IMAGE_REWARD, checkpoint), (VOCABULARY, vocabulary))

    @classmethod
    def execute(cls, checkpoint: str, vocabulary: str, precision: str, batch_size: int) -> io.NodeOutput:
        compute = made_compute(precision, batch_size)
        return io.NodeOutput(
            image_reward.ImageReward(IMAGE_REWARD.path(checkpoint), VOCABULARY.path(vocabulary), compute)
        )


NODES = [PaveCLIPScore, PaveCLIPContrast, PaveHPSv2, PavePickScore, PaveAesthetic, PaveAestheticV25, PaveImageReward]
