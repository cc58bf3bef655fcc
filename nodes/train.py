"""The main job: train a LoRA by Pave-GRPO, as one node or with its settings on wires."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..pave_core.config.train import LoraConfig, PaveConfig, RolloutConfig, RunConfig, TrainConfig, parse_int_set
from ..pave_core.evaluation.guard import GuardSettings
from ..pave_core.runs.folder import safe_name
from .host.policy.native import PolicySettings, RolloutSettings
from .host.train import RunResult, RunSettings, run_training
from .shared import schema
from .shared.presets import CUSTOM, METHOD, PRESET_NAMES, train_config
from .shared.widgets import DEFAULTS, MEASURE, NO_RESUME, STORAGE, optim_config, pave_config, rollout_config, widgets

PROMPTS = schema.Prompts.Input("prompts", tooltip="What to draw while training, and the held-out prompts.")
JUDGE = schema.Reward.Input("judge", optional=True, tooltip="A second opinion: measured before and after on the held-out prompts, never trained on.")


GUARD = schema.Guard.Input("guard", optional=True, tooltip="From Pave Guard: stops the run when it goes astray, and keeps the best weights.")


def run_settings(
    run_name: str, resume: str, evaluation_seeds: int, evaluate_every: int, check_reward: bool, iterations: int | None, guard: GuardSettings | None
) -> RunSettings:
    """The settings of the STORAGE and MEASURE widgets, and the guard."""
    seeds = tuple(range(1, evaluation_seeds + 1))
    return RunSettings(run_name, None if resume == NO_RESUME else resume, seeds, evaluate_every, iterations, check_reward, guard)


def result_outputs() -> list[Any]:
    """What a training run gives out."""
    return [
        io.Model.Output(display_name="model", tooltip="The model with the LoRA applied, ready for a KSampler."),
        schema.LoraModel.Output(display_name="lora", tooltip="The LoRA, for Pave Save LoRA or the stock Save LoRA Weights."),
        schema.LossMap.Output(
            display_name="loss_map",
            tooltip="For the stock Plot Loss Graph. It holds minus the reward: the loss of GRPO itself is about 0 whatever happens.",
        ),
        io.Image.Output(display_name="curve", tooltip="The rewards over the steps."),
    ]


GRID = io.Image.Output(display_name="grid", tooltip="Held-out prompts before and after, from the same seeds.")
SUMMARY = io.String.Output(display_name="summary", tooltip="The figures in words.")


def _wrap(result: RunResult) -> io.NodeOutput:
    return io.NodeOutput(result.model, result.lora, result.loss_map, result.curve, result.grid, result.summary)


class PaveTrain(io.ComfyNode):
    """Train a LoRA toward a reward."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveTrain",
            "Pave Train",
            "Tunes the model toward what the reward likes, by Pave-GRPO (arXiv 2606.01636), and gives a LoRA. Cancel keeps everything learnt so far.",
            terms=["train lora", "grpo", "reinforcement learning", "rl", "fine-tune"],
            inputs=[
                io.Model.Input("model", tooltip="The flow model you generate with, from any loader, patched or not. It is left as it is."),
                io.Clip.Input("clip", tooltip="Its text encoder."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                PROMPTS,
                schema.Reward.Input("reward", tooltip="What you like: any reward, or a mix."),
                JUDGE,
                GUARD,
                io.Combo.Input(
                    "preset",
                    options=PRESET_NAMES,
                    default=CUSTOM,
                    tooltip="Choosing one fills the fields from iterations to optimizer_step. quick: minutes, for the bundled model. paper: the "
                    "released FLUX settings. What trains is what the fields say.",
                ),
                *widgets(*METHOD, "seed", "width", "height", "cfg", *STORAGE, "negative_prompt", "guidance", "scheduler", *MEASURE),
            ],
            outputs=[*result_outputs(), GRID, SUMMARY],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(
        cls, steps: int | None = None, branch_steps: str | None = None, segments: str | None = None, run_name: str | None = None
    ) -> bool | str:
        """What the widgets' own ranges do not say; a linked input is None here and is checked when the node runs.

        The host repeats the message for each field that is named here, so they are few.
        """

        def check() -> None:
            if steps is not None and branch_steps is not None:
                RolloutConfig(steps=steps, branch_steps=parse_int_set("branch_steps", branch_steps))
            if segments is not None:
                PaveConfig(segments=parse_int_set("segments", segments))
            if run_name is not None:
                safe_name("run_name", run_name)

        return schema.checked(check)

    @classmethod
    def execute(
        cls,
        model,
        clip,
        vae,
        prompts,
        reward,
        preset,
        seed,
        width,
        height,
        cfg,
        run_name,
        resume,
        negative_prompt,
        guidance,
        scheduler,
        evaluation_seeds,
        evaluate_every,
        check_reward=True,
        judge=None,
        guard=None,
        **method,
    ) -> io.NodeOutput:
        config = train_config(preset, seed, method)
        policy = PolicySettings(model, clip, vae, config.lora, cfg, guidance, negative_prompt)
        rollout = RolloutSettings(config.rollout, width, height, scheduler)
        settings = run_settings(run_name, resume, evaluation_seeds, evaluate_every, check_reward, config.run.iterations, guard)
        return _wrap(run_training(policy, rollout, prompts, reward, judge, config, settings, cls.hidden.unique_id))


class PaveTrainAdvanced(io.ComfyNode):
    """Pave Train with its settings on wires."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveTrainAdvanced",
            "Pave Train (Advanced)",
            "Pave Train with its settings on wires: share them between nodes, use another optimizer, a learning rate schedule or sigmas of your own. "
            "What is left open is the paper's.",
            terms=["train lora", "grpo", "reinforcement learning", "composable"],
            inputs=[
                schema.Policy.Input("policy", tooltip="The model to tune, from Pave Policy."),
                PROMPTS,
                schema.Reward.Input("reward", tooltip="What you like: any reward, or a mix."),
                *optional_settings(),
                JUDGE,
                GUARD,
                *widgets("iterations", "prompts_per_step", "seed", *STORAGE, "checkpoint_every", *MEASURE),
            ],
            outputs=[*result_outputs(), GRID, SUMMARY],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, run_name: str | None = None) -> bool | str:
        return True if run_name is None else schema.checked(lambda: safe_name("run_name", run_name))

    @classmethod
    def execute(
        cls,
        policy,
        prompts,
        reward,
        iterations,
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
        judge=None,
        guard=None,
    ) -> io.NodeOutput:
        rollout = rollout or default_rollout()
        config = composed_config(policy.lora, rollout, objective, optimizer, RunConfig(iterations, prompts_per_step, seed, checkpoint_every))
        settings = run_settings(run_name, resume, evaluation_seeds, evaluate_every, check_reward, iterations, guard)
        return _wrap(run_training(policy, rollout, prompts, reward, judge, config, settings, cls.hidden.unique_id))


def optional_settings() -> list[Any]:
    """The sockets of the settings nodes."""
    remark = "Left open: the paper's."
    return [
        schema.RolloutSettings.Input("rollout", optional=True, tooltip=f"From Pave Rollout Settings. {remark}"),
        schema.Objective.Input("objective", optional=True, tooltip=f"From Pave Objective. {remark}"),
        schema.Optimizer.Input("optimizer", optional=True, tooltip=f"From Pave Optimizer. {remark}"),
    ]


def default_rollout() -> RolloutSettings:
    """The rollout of a node whose socket is left open."""
    return RolloutSettings(rollout_config(DEFAULTS))


def composed_config(lora: LoraConfig, rollout: RolloutSettings, objective: Any, optimizer: Any, run: RunConfig) -> TrainConfig:
    """The settings on wires as one; None is what was left open."""
    return TrainConfig(rollout.config, objective or pave_config({}), lora, optimizer or optim_config({}), run)


NODES = [PaveTrain, PaveTrainAdvanced]
