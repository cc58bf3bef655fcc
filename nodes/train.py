"""Training a LoRA by Pave-GRPO in one node, with all settings on it or with its settings on wires; and its recipe."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ..pave_core.config.fields import from_shown
from ..pave_core.config.presets import CUSTOM, preset_config
from ..pave_core.files import safe_name
from ..pave_core.runs.settings import NO_RESUME, Task
from ..pave_core.scoring.mix import RewardMix
from .host.export import export_recipe
from .host.graphs import queue
from .host.graphs.files import model_files
from .host.graphs.settings import check_train, check_wired
from .host.policy.settings import Guidance, Picture, PolicySettings, RolloutSettings
from .host.train import RunResult, run_training
from .shared import schema
from .shared.presets import METHOD, PRESET_NAMES, train_config
from .shared.training import (
    GRID,
    GUARD,
    JUDGE,
    MEASURE,
    MEMORY,
    PROMPTS,
    STORAGE,
    SUMMARY,
    composed_config,
    optional_settings,
    result_outputs,
    run_settings,
)
from .shared.widgets import folded, widgets

FIRST = (
    *("iterations", "learning_rate", "batch_size", "width", "height", "cfg"),
    *("run_name", "resume", "evaluate_every"),
)
"""What people change first; with preset, the ten widgets of Pave Train that are never folded away."""


def _wrap(result: RunResult) -> io.NodeOutput:
    return io.NodeOutput(result.model_output, result.lora, result.loss_map, result.curve, result.grid, result.summary)


class PaveTrain(io.ComfyNode):
    """Train a LoRA toward a reward."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveTrain",
            "Pave Train",
            "Tunes the model toward what the reward likes, by Pave-GRPO (arXiv 2606.01636), and gives a LoRA. Cancel "
            "keeps everything learnt so far.",
            terms=["train lora", "grpo", "reinforcement learning", "rl", "fine-tune"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The flow model you generate with, from any loader, patched or not. It is left as it is.",
                ),
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
                    tooltip="Start here: quick takes minutes, for the bundled model; pave (released code) is for "
                    "large ones, hours; fast finishes images in fewer steps. Choosing one fills the fields from "
                    "iterations to optimizer_step, and sets what this node has no field for, such as kernel and "
                    "exploration. It stays when you change a field: the run uses what the fields say, and the preset "
                    "for the rest. custom: the defaults for the rest.",
                ),
                *folded(widgets(*METHOD, "seed", "width", "height", "cfg", *STORAGE), FIRST),
                *folded(widgets("negative_prompt", "guidance", "scheduler", *MEASURE), FIRST),
                MEMORY,
            ],
            outputs=[*result_outputs(), GRID, SUMMARY],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(
        cls,
        preset: str | None = None,
        branch_steps: str | None = None,
        segments: str | None = None,
        run_name: str | None = None,
    ) -> bool | str:
        """Check what the widgets' own ranges do not. A linked input is None here, and is checked when the node runs.

        preset is named so that the host does not refuse those of older versions. The host repeats the message for each
        input that is named here, so that they are few.
        """

        def check() -> None:
            if preset is not None:
                preset_config(preset)
            if run_name is not None:
                safe_name("run_name", run_name)

        named = schema.checked(check)
        return queue.validated(check_train) if named is True else named

    @classmethod
    def execute(
        cls, model, clip, vae, prompts, reward, preset, judge=None, guard=None, memory=None, **values: Any
    ) -> io.NodeOutput:
        config = train_config(preset, values, memory)
        policy = PolicySettings(model, clip, vae, config.lora, from_shown(Guidance, values))
        rollout = RolloutSettings(config.rollout, from_shown(Picture, values))
        settings = run_settings(values, guard, config.run.iterations)
        task = Task(config, settings, prompts, RewardMix.of(reward), judge)
        return _wrap(run_training(policy, rollout, task, cls.hidden.unique_id))


class PaveTrainAdvanced(io.ComfyNode):
    """Pave Train with its settings on wires."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveTrainAdvanced",
            "Pave Train (Advanced)",
            "Pave Train with its settings on wires: share them between nodes, use another optimizer, a learning rate "
            "schedule or sigmas of your own. Settings that are not connected are the paper's.",
            terms=["train lora", "grpo", "reinforcement learning", "composable"],
            inputs=[
                *_wires(),
                *widgets(
                    "iterations", "prompts_per_step", "seed", *STORAGE, "checkpoint_every", *MEASURE, "sample_ahead"
                ),
                MEMORY,
            ],
            outputs=[*result_outputs(), GRID, SUMMARY],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, run_name: str | None = None) -> bool | str:
        named = True if run_name is None else schema.checked(lambda: safe_name("run_name", run_name))
        return queue.validated(check_wired) if named is True else named

    @classmethod
    def execute(cls, policy, prompts, reward, **inputs: Any) -> io.NodeOutput:
        rollout, task = _task(policy, prompts, reward, **inputs)
        return _wrap(run_training(policy, rollout, task, cls.hidden.unique_id))


class PaveExportRecipe(io.ComfyNode):
    """Write down what Pave Train (Advanced) would do."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveExportRecipe",
            "Pave Export Recipe",
            "Writes the recipe of a training to output/pave/recipes, for a machine without a page: python "
            "tools/train.py RECIPE trains it there, in one process or on many GPUs. Nothing is trained here. The model "
            "is loaded for its fingerprint.",
            terms=["headless", "multi gpu", "cluster", "json", "accelerate"],
            inputs=[
                *_wires(),
                *widgets(
                    "iterations", "prompts_per_step", "seed", "run_name", "checkpoint_every", *MEASURE, "sample_ahead"
                ),
                MEMORY,
            ],
            outputs=[
                io.String.Output(display_name="path", tooltip="Where the file was written."),
                io.String.Output(display_name="recipe", tooltip="What is in it, for Preview as Text."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, run_name: str | None = None) -> bool | str:
        named = True if run_name is None else schema.checked(lambda: safe_name("run_name", run_name))
        if named is not True:
            return named
        wired = queue.validated(check_wired)
        return queue.validated(model_files) if wired is True else wired

    @classmethod
    def execute(cls, policy, prompts, reward, **inputs: Any) -> io.NodeOutput:
        prompt: Any = cls.hidden.dynprompt
        files = model_files({node: prompt.get_node(node) for node in prompt.all_node_ids()}, cls.hidden.unique_id)
        rollout, task = _task(policy, prompts, reward, resume=NO_RESUME, **inputs)
        path, text = export_recipe(policy, rollout, task, files)
        return io.NodeOutput(str(path), text, ui=ui.PreviewText(f"saved {path}\n\npython tools/train.py {path}"))


def _wires() -> list[Any]:
    """The inputs of a training whose settings are on wires."""
    return [
        schema.Policy.Input("policy", tooltip="The model to tune, from Pave Policy."),
        PROMPTS,
        schema.Reward.Input("reward", tooltip="What you like: any reward, or a mix."),
        *optional_settings(),
        JUDGE,
        GUARD,
    ]


def _task(
    policy,
    prompts,
    reward,
    *,
    rollout=None,
    objective=None,
    optimizer=None,
    judge=None,
    guard=None,
    memory=None,
    **values: Any,
) -> tuple[RolloutSettings, Task]:
    """What the values of _wires() and of the widgets beside them ask for."""
    rollout = rollout or RolloutSettings()
    config = composed_config(
        policy.lora, rollout, objective=objective, optimizer=optimizer, memory=memory, values=values
    )
    settings = run_settings(values, guard, config.run.iterations)
    return rollout, Task(config, settings, prompts, RewardMix.of(reward), judge)


NODES = [PaveTrain, PaveTrainAdvanced, PaveExportRecipe]
