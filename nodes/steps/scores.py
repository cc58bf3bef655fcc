"""Scores and advantages as nodes: from images to what the loss learns from."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ...pave_core.errors import ConfigError, quoted
from ...pave_core.rewards.statistics import PIXEL_STATISTICS
from ...pave_core.scoring import from_wires
from ...pave_core.scoring.mix import RewardMix
from ...pave_core.scoring.mix import Scores as RawScores
from ..host.steps import actions
from ..shared import schema


class PaveScore(io.ComfyNode):
    """Score images with a reward."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveScore",
            "Pave Score",
            "Scores images with a reward, or a mix. Works on any images, not only on those of Pave Rollout.",
            terms=["reward", "rate images", "evaluate"],
            category=schema.STEPS,
            is_input_list=True,
            inputs=[
                schema.Reward.Input("reward", tooltip="What you like: any reward, or a mix."),
                io.Image.Input("images", tooltip="The images, as a batch or a list."),
                io.String.Input(
                    "prompts",
                    force_input=True,
                    tooltip="The prompt of each image, as a list; a single prompt is used for all.",
                ),
            ],
            outputs=[
                schema.Scores.Output(display_name="scores", tooltip="The score of each image, for Pave Advantage."),
                io.Float.Output(
                    display_name="numbers",
                    is_output_list=True,
                    tooltip="The scores as a list of numbers; for a mix, the weighted sum.",
                ),
            ],
        )

    @classmethod
    def execute(cls, reward: list, images: list, prompts: list[str]) -> io.NodeOutput:
        pictures = [picture for batch in images for picture in batch]
        texts = prompts * len(pictures) if len(prompts) == 1 else prompts
        if len(texts) != len(pictures):
            raise ConfigError(
                f"prompts: {len(texts)} for {len(pictures)} images: give one per image, in their order, or a single "
                "one for all"
            )
        scores = from_wires.score(RewardMix.of(reward[0]), pictures, texts)
        return io.NodeOutput(scores, scores.total().tolist())


class PaveScoresFromNumbers(io.ComfyNode):
    """Numbers of other nodes as scores."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveScoresFromNumbers",
            "Pave Scores From Numbers",
            "Makes scores from the numbers that any other nodes give, one per image, so that any graph from image to "
            "number can be a reward.",
            terms=["custom reward", "float to score", "any node as reward"],
            category=schema.STEPS,
            is_input_list=True,
            inputs=[
                io.MultiType.Input(
                    "numbers",
                    [io.Float, io.Int, io.Boolean],
                    tooltip="One number per image, in the order of the images; higher is better.",
                ),
                io.String.Input("name", default="graph", tooltip="The name of the scores in the log and the curve."),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.05,
                    tooltip="How much these scores count beside others. Negative: lower numbers are better.",
                ),
                schema.Scores.Input(
                    "scores",
                    optional=True,
                    tooltip="Scores of the same images to which these are added, from Pave Score or another Pave "
                    "Scores From Numbers.",
                ),
            ],
            outputs=[
                schema.Scores.Output(
                    display_name="scores", tooltip="For Pave Advantage, or another Pave Scores From Numbers."
                )
            ],
        )

    @classmethod
    def execute(
        cls, numbers: list, name: list[str], weight: list[float], scores: list[RawScores] | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(from_wires.scores_from_numbers(numbers, name[0], weight[0], scores[0] if scores else None))


class PaveAdvantage(io.ComfyNode):
    """The advantage of each image within its group."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveAdvantage",
            "Pave Advantage",
            "Compares each image with its group: above 0 is better than the group's mean, in units of the group's "
            "spread. This is what the loss learns from.",
            terms=["grpo", "normalise", "baseline"],
            category=schema.STEPS,
            inputs=[
                schema.Rollout.Input("rollout", tooltip="The rollout, from Pave Rollout."),
                schema.Scores.Input("scores", tooltip="One score for each of the rollout's images."),
            ],
            outputs=[
                schema.Advantages.Output(
                    display_name="advantages", tooltip="For Pave Decomposition Loss and Pave Preview Group."
                ),
                io.Float.Output(
                    display_name="numbers",
                    is_output_list=True,
                    tooltip="The advantages as a list of numbers, one per image.",
                ),
            ],
        )

    @classmethod
    def execute(cls, rollout, scores: RawScores) -> io.NodeOutput:
        advantages = actions.advantage(rollout, scores)
        return io.NodeOutput(advantages, advantages.values.flatten().tolist())


class PaveImageStatistic(io.ComfyNode):
    """A statistic of each image's pixels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveImageStatistic",
            "Pave Image Statistic",
            description="One number for each image: the mean of its pixels, their spread, or the largest or smallest. "
            "At the end of a graph of image nodes, with Pave Scores From Numbers, it makes the graph a reward.",
            terms=["image to number", "brightness", "mean", "contrast", "custom reward"],
            inputs=[
                io.Image.Input("images", tooltip="The images; each gets a number of its own."),
                io.Combo.Input(
                    "statistic",
                    options=list(PIXEL_STATISTICS),
                    default="mean",
                    tooltip="mean: brightness. standard deviation: contrast. Over all pixels and colours.",
                ),
            ],
            outputs=[
                io.Float.Output(display_name="numbers", is_output_list=True, tooltip="One number per image, as a list.")
            ],
        )

    @classmethod
    def execute(cls, images: Tensor, statistic: str) -> io.NodeOutput:
        if statistic not in PIXEL_STATISTICS:
            raise ConfigError(
                f"statistic: {quoted(statistic)} is not known: choose one of {', '.join(PIXEL_STATISTICS)}"
            )
        return io.NodeOutput(PIXEL_STATISTICS[statistic](images.flatten(1).float()).tolist())


NODES = [PaveScore, PaveScoresFromNumbers, PaveImageStatistic, PaveAdvantage]
