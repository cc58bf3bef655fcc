"""The training loop as nodes: each wraps one part of a step, with its data visible on the wires."""

from __future__ import annotations

from comfy_api.latest import io

from ...pave_core.config.train import RunConfig
from ...pave_core.runs.folder import safe_name
from ..host.graphs import graph, queue
from ..host.steps import actions as steps
from ..host.train import Run
from ..shared import schema
from ..shared.widgets import MEASURE, STORAGE, widgets
from ..train import GUARD, JUDGE, PROMPTS, SUMMARY, composed_config, default_rollout, optional_settings, result_outputs, run_settings

STATE = "The training run as it stands here. Each state goes to one node that changes it: wire those one after the other."


class PaveBegin(io.ComfyNode):
    """The state that a training graph begins with."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveBegin",
            "Pave Begin",
            "Begins a training run that you draw yourself: gives the state that Pave Rollout, Pave Decomposition Loss and Pave Optimizer Step pass "
            "on, in a loop, until Pave Finish. Queueing the graph again trains again, from the start.",
            terms=["training loop", "grpo", "start training"],
            category=schema.STEPS,
            inputs=[
                schema.Policy.Input("policy", tooltip="The model to tune, from Pave Policy."),
                PROMPTS,
                *optional_settings(),
                schema.Reward.Input(
                    "reward",
                    optional=True,
                    tooltip="Measured on the held-out prompts before and after, for the curve; judge and evaluations need it. What trains are the "
                    "scores in the loop.",
                ),
                JUDGE,
                GUARD,
                *widgets("prompts_per_step", "seed", *STORAGE, "checkpoint_every", *MEASURE),
            ],
            outputs=[schema.State.Output(display_name="state", tooltip=STATE)],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, run_name: str | None = None) -> bool | str:
        return True if run_name is None else schema.checked(lambda: safe_name("run_name", run_name))

    @classmethod
    def fingerprint_inputs(cls, **inputs) -> int:
        return steps.fingerprint()

    @classmethod
    def execute(
        cls,
        policy,
        prompts,
        prompts_per_step,
        seed,
        run_name,
        resume,
        checkpoint_every,
        evaluation_seeds,
        evaluate_every,
        check_reward=True,
        rollout=None,
        objective=None,
        optimizer=None,
        reward=None,
        judge=None,
        guard=None,
    ) -> io.NodeOutput:
        rollout = rollout or default_rollout()
        config = composed_config(policy.lora, rollout, objective, optimizer, RunConfig(1, prompts_per_step, seed, checkpoint_every))
        settings = run_settings(run_name, resume, evaluation_seeds, evaluate_every, check_reward, None, guard)
        run = Run(policy, rollout, prompts, reward, judge, config, settings)
        return io.NodeOutput(steps.StepRun(run, cls.hidden.unique_id).state())


class PaveRollout(io.ComfyNode):
    """Draw the images of a step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveRollout",
            "Pave Rollout",
            "Draws the images of a step: for each of its prompts, groups that differ by one noisy denoising step. Score them with anything that "
            "gives one number an image.",
            terms=["sample", "group", "branches"],
            category=schema.STEPS,
            inputs=[schema.State.Input("state", tooltip=STATE)],
            outputs=[
                schema.Rollout.Output(display_name="rollout", tooltip="What was drawn, for Pave Advantage and Pave Decomposition Loss."),
                io.Image.Output(display_name="images", tooltip="All images in one batch: prompts x branch steps x group size, group by group."),
                io.String.Output(display_name="prompts", is_output_list=True, tooltip="The prompt of each image, as a list."),
                io.Image.Output(display_name="anchors", tooltip="One image a prompt without exploration: what the model makes now."),
            ],
        )

    @classmethod
    def execute(cls, state) -> io.NodeOutput:
        drawn = steps.draw(state)
        return io.NodeOutput(drawn, drawn.images, drawn.prompts, drawn.anchors)


class PaveDecompositionLoss(io.ComfyNode):
    """The gradient of a rollout."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveDecompositionLoss",
            "Pave Decomposition Loss",
            "Decomposes each branch step into finer ones and adds the gradient that makes the better branches likelier. The weights move in Pave "
            "Optimizer Step; several losses before it add up.",
            terms=["backward", "gradient", "paving"],
            category=schema.STEPS,
            inputs=[
                schema.State.Input("state", tooltip=STATE),
                schema.Rollout.Input("rollout", tooltip="What was drawn from this state."),
                schema.Advantages.Input("advantages", tooltip="How the rollout's images compare."),
            ],
            outputs=[
                schema.State.Output(display_name="state", tooltip="The state with the gradient added."),
                io.Float.Output(
                    display_name="loss", tooltip="Its value: about 0 whatever happens, since advantages have mean 0. Its gradient is what counts."
                ),
                io.String.Output(
                    display_name="segments",
                    tooltip="For each number of sub-steps: log-probability, noise, and how hard it pushes. For Preview as Text.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, state=None) -> bool | str:
        return queue.validated(graph.check_loss)

    @classmethod
    def execute(cls, state, rollout, advantages) -> io.NodeOutput:
        after, loss, figures = steps.accumulate(state, rollout, advantages)
        lines = [f"- n = {n}: log-probability {f.log_prob:.4f}, std {f.std:.4f}, push {f.push:.4g}" for n, f in sorted(figures.items())]
        return io.NodeOutput(after, loss, "\n".join(lines))


class PaveOptimizerStep(io.ComfyNode):
    """Move the weights."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveOptimizerStep",
            "Pave Optimizer Step",
            "Clips the gradient, moves the LoRA by one step of the optimizer, and ends the training step: logs it, saves a checkpoint if one is due.",
            terms=["adamw", "update", "step"],
            category=schema.STEPS,
            inputs=[schema.State.Input("state", tooltip=STATE)],
            outputs=[
                schema.State.Output(display_name="state", tooltip="The state after the step, for Pave Loop End or Pave Finish."),
                io.Int.Output(display_name="step", tooltip="How many steps are done."),
                io.Float.Output(display_name="reward", tooltip="The mean reward of this step's images."),
                io.Float.Output(display_name="gradient", tooltip="The gradient's norm before clipping."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, state=None) -> bool | str:
        return queue.validated(graph.check_optimizer_step)

    @classmethod
    def execute(cls, state) -> io.NodeOutput:
        after, metrics = steps.optimizer_step(state, cls.hidden.unique_id)
        return io.NodeOutput(after, metrics.step, metrics.reward_mean, metrics.grad_norm)


class PaveFinish(io.ComfyNode):
    """What comes out of a training graph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveFinish",
            "Pave Finish",
            "Ends a training run: measures it, saves its LoRA, and gives the tuned model straight to a KSampler. Changing something behind it does "
            "not train again.",
            terms=["end training", "trained model", "lora"],
            category=schema.STEPS,
            is_output_node=True,
            inputs=[schema.State.Input("state", tooltip="The state after the last step, from Pave Loop End.")],
            outputs=[*result_outputs(), SUMMARY],
        )

    @classmethod
    def validate_inputs(cls, state=None) -> bool | str:
        return queue.validated(graph.check_steps)

    @classmethod
    def execute(cls, state) -> io.NodeOutput:
        result = steps.finish(state)
        return io.NodeOutput(result.model, result.lora, result.loss_map, result.curve, result.summary)


NODES = [PaveBegin, PaveRollout, PaveDecompositionLoss, PaveOptimizerStep, PaveFinish]
