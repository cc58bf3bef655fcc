"""The gradient of a rollout and the optimizer's step, as nodes."""

from __future__ import annotations

from comfy_api.latest import io

from ..host.graphs import checks, queue
from ..host.steps import actions
from ..shared import schema
from ..shared.training import STATE


class PaveDecompositionLoss(io.ComfyNode):
    """The gradient of a rollout."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveDecompositionLoss",
            "Pave Decomposition Loss",
            "Decomposes each branch step into finer ones and adds the gradient that makes the better branches "
            "likelier. The weights move in Pave Optimizer Step; several losses before it add up.",
            terms=["backward", "gradient", "paving"],
            category=schema.STEPS,
            inputs=[
                schema.State.Input("state", tooltip=STATE),
                schema.Rollout.Input("rollout", tooltip="The rollout that was made from this state."),
                schema.Advantages.Input("advantages", tooltip="The advantages of the rollout's images."),
            ],
            outputs=[
                schema.State.Output(display_name="state", tooltip="The state with the gradient added."),
                io.Float.Output(
                    display_name="loss",
                    tooltip="The loss so far: always about 0, since advantages have mean 0. Its gradient counts.",
                ),
                io.String.Output(
                    display_name="segments",
                    tooltip="For each number n of sub-steps: log-probability, std of the noise, and how hard its loss "
                    "pushes. For Preview as Text.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, state=None) -> bool | str:
        return queue.validated(checks.check_loss)

    @classmethod
    def execute(cls, state, rollout, advantages) -> io.NodeOutput:
        after, loss, segments = actions.accumulate(state, rollout, advantages)
        lines = [
            f"- n = {n}: log-probability {f.log_prob:.4f}, std {f.std:.4f}, push {f.push:.4g}"
            for n, f in sorted(segments.items())
        ]
        return io.NodeOutput(after, loss, "\n".join(lines))


class PaveOptimizerStep(io.ComfyNode):
    """The optimizer's step, which ends a training step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveOptimizerStep",
            "Pave Optimizer Step",
            "Clips the gradient, moves the LoRA by one step of the optimizer, and ends the training step: logs it, and "
            "saves a checkpoint if one is due.",
            terms=["adamw", "update", "step"],
            category=schema.STEPS,
            inputs=[schema.State.Input("state", tooltip=STATE)],
            outputs=[
                schema.State.Output(
                    display_name="state", tooltip="The state after the step, for Pave Loop End or Pave Finish."
                ),
                io.Int.Output(display_name="step", tooltip="How many steps are done."),
                io.Float.Output(display_name="reward", tooltip="The mean reward of this step's images."),
                io.Float.Output(display_name="gradient", tooltip="The gradient's norm before clipping."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, state=None) -> bool | str:
        return queue.validated(checks.check_optimizer_step)

    @classmethod
    def execute(cls, state) -> io.NodeOutput:
        after, metrics = actions.optimizer_step(state, cls.hidden.unique_id)
        return io.NodeOutput(after, metrics.step, metrics.reward_mean, metrics.grad_norm)


NODES = [PaveDecompositionLoss, PaveOptimizerStep]
