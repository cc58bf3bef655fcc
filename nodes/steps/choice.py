"""What a training step chooses, as nodes: its prompts before the rollout, and the images that it learns from after."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.graphs import checks, queue
from ..host.steps import actions
from ..shared import schema
from ..shared.training import STATE


class PaveCandidates(io.ComfyNode):
    """One image of each prompt that a step may train on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveCandidates",
            "Pave Candidates",
            "Generates one image for each of several prompts, among which Pave Choose Prompts then chooses those that "
            "the step trains on (AdaGRPO). How many is candidates in Pave Rollout Settings.",
            terms=["adagrpo", "curriculum", "prompts"],
            category=schema.STEPS,
            inputs=[schema.State.Input("state", tooltip=STATE)],
            outputs=[
                schema.Candidates.Output(display_name="candidates", tooltip="For Pave Choose Prompts."),
                io.Image.Output(display_name="images", tooltip="One image for each candidate, to be scored."),
                io.String.Output(
                    display_name="prompts", is_output_list=True, tooltip="The prompt of each image, as a list."
                ),
            ],
        )

    @classmethod
    def execute(cls, state) -> io.NodeOutput:
        found = actions.candidates(state)
        return io.NodeOutput(found, found.images, found.prompts)


class PaveChoosePrompts(io.ComfyNode):
    """The prompts that a step trains on, by the scores of its candidates."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveChoosePrompts",
            "Pave Choose Prompts",
            "Chooses the prompts that the step trains on: those whose scores are nearest the running mean, neither too "
            "easy nor too hard for the model as it is (AdaGRPO).",
            terms=["adagrpo", "curriculum", "difficulty"],
            category=schema.STEPS,
            inputs=[
                schema.State.Input("state", tooltip=STATE),
                schema.Candidates.Input("candidates", tooltip="From Pave Candidates."),
                schema.Scores.Input("scores", tooltip="One score for each candidate's image."),
            ],
            outputs=[
                schema.State.Output(display_name="state", tooltip="The state with its prompts, for Pave Rollout."),
                io.String.Output(display_name="prompts", is_output_list=True, tooltip="The prompts that were chosen."),
            ],
        )

    @classmethod
    def validate_inputs(cls, state=None) -> bool | str:
        return queue.validated(checks.check_choice)

    @classmethod
    def execute(cls, state, candidates, scores) -> io.NodeOutput:
        return io.NodeOutput(*actions.choose(state, candidates, scores))


class PaveContrast(io.ComfyNode):
    """The best and the worst images of each group, finished in full."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveContrast",
            "Pave Contrast",
            "Keeps the best and the worst images of each group and finishes them on all steps of the schedule, so that "
            "many images can be looked at cheaply. How many stay is contrast in Pave Rollout Settings. Score what "
            "comes out, and connect it in place of the rollout.",
            terms=["sol-rl", "best of n", "subset"],
            category=schema.STEPS,
            inputs=[
                schema.Rollout.Input("rollout", tooltip="The rollout, from Pave Rollout."),
                schema.Scores.Input("scores", tooltip="One score for each of the rollout's images."),
            ],
            outputs=[
                schema.Rollout.Output(
                    display_name="rollout",
                    tooltip="The smaller rollout, for Pave Advantage and the loss.",
                ),
                io.Image.Output(display_name="images", tooltip="Its images, to be scored again."),
                io.String.Output(
                    display_name="prompts", is_output_list=True, tooltip="The prompt of each image, as a list."
                ),
            ],
        )

    @classmethod
    def execute(cls, rollout, scores) -> io.NodeOutput:
        sampled = actions.contrast(rollout, scores)
        return io.NodeOutput(sampled, sampled.images, sampled.prompts)


NODES = [PaveCandidates, PaveChoosePrompts, PaveContrast]
