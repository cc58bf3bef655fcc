"""Settings as nodes: small ones that a graph shares between its training nodes, as SamplerCustomAdvanced does for sampling."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from .host.policy.native import PolicySettings
from .host.policy.native import RolloutSettings as Drawing
from .shared import schema, widgets

_OPTIONAL = "Leave it open for the paper's settings."


def _settings_schema(node_id: str, display_name: str, description: str, output: Any, names: tuple[str, ...], terms: list[str], *first: Any) -> Any:
    return schema.schema(
        node_id,
        display_name,
        description,
        terms=terms,
        category=schema.SETTINGS,
        inputs=[*first, *widgets.widgets(*names)],
        outputs=[output],
    )


class PavePolicy(io.ComfyNode):
    """The model to tune, with how it is guided and the adapter that it gets."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _settings_schema(
            "PavePolicy",
            "Pave Policy",
            "The model to tune, as you generate with it: MODEL, CLIP and VAE of your workflow, the guidance of your KSampler, and the LoRA that "
            "it will get. For Pave Train (Advanced) and Pave Begin.",
            schema.Policy.Output(display_name="policy", tooltip="For Pave Train (Advanced) or Pave Begin."),
            widgets.GUIDANCE,
            ["model to train", "grpo policy", "reinforcement learning"],
            io.Model.Input("model", tooltip="The flow model you generate with, from any loader, patched or not. It is left as it is."),
            io.Clip.Input("clip", tooltip="Its text encoder."),
            io.Vae.Input("vae", tooltip="Its VAE."),
            schema.LoraSettings.Input("lora", optional=True, tooltip=f"The LoRA to train. {_OPTIONAL}"),
        )

    @classmethod
    def execute(cls, model, clip, vae, cfg, negative_prompt, guidance, lora=None) -> io.NodeOutput:
        return io.NodeOutput(PolicySettings(model, clip, vae, lora or widgets.lora_config(widgets.DEFAULTS), cfg, guidance, negative_prompt))


class PaveLoRASettings(io.ComfyNode):
    """The adapter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _settings_schema(
            "PaveLoRASettings",
            "Pave LoRA Settings",
            "The LoRA to train: its rank, its scale and the layers it sits on. For Pave Policy.",
            schema.LoraSettings.Output(display_name="lora", tooltip="For Pave Policy."),
            widgets.LORA,
            ["rank", "alpha", "adapter", "peft"],
        )

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(widgets.lora_config(values))


class PaveRolloutSettings(io.ComfyNode):
    """How images are drawn while training."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _settings_schema(
            "PaveRolloutSettings",
            "Pave Rollout Settings",
            "How images are drawn while training: denoising steps, the steps that explore, how many images are compared, and their size.",
            schema.RolloutSettings.Output(display_name="rollout", tooltip="For Pave Train (Advanced) or Pave Begin."),
            (*widgets.ROLLOUT, *widgets.PICTURE),
            ["sampling", "group size", "exploration", "sigmas"],
            io.Sigmas.Input(
                "sigmas",
                optional=True,
                tooltip="A schedule of your own, from any scheduler node; it must fall from at most 1 to 0. It replaces steps and scheduler.",
            ),
        )

    @classmethod
    def validate_inputs(cls, branch_steps: str | None = None, steps: int | None = None, sigmas: Any = "open") -> bool | str:
        # A linked input is None here: with linked sigmas their number counts, not the widget's, and is known when the node runs.
        if branch_steps is None or steps is None or sigmas is None:
            return True
        return schema.checked(lambda: widgets.rollout_config(widgets.DEFAULTS | {"branch_steps": branch_steps, "steps": steps}))

    @classmethod
    def execute(cls, width, height, scheduler, sigmas: Tensor | None = None, **values: Any) -> io.NodeOutput:
        grid = None if sigmas is None else tuple(sigmas.tolist())
        if grid is not None:
            values["steps"] = len(grid) - 1
        return io.NodeOutput(Drawing(widgets.rollout_config(values), width, height, scheduler, grid))


class PaveObjective(io.ComfyNode):
    """The loss."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _settings_schema(
            "PaveObjective",
            "Pave Objective",
            "What the loss is made of: into how many finer steps each branch step is decomposed, and what each part weighs. Empty segments are "
            "plain GRPO.",
            schema.Objective.Output(display_name="objective", tooltip="For Pave Train (Advanced) or Pave Begin."),
            widgets.OBJECTIVE,
            ["loss", "segments", "decomposition", "grpo"],
        )

    @classmethod
    def validate_inputs(cls, segments: str | None = None, segment_weights: str | None = None) -> bool | str:
        if segments is None or segment_weights is None:
            return True
        return schema.checked(lambda: widgets.pave_config({"segments": segments, "segment_weights": segment_weights}))

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(widgets.pave_config(values))


class PaveOptimizer(io.ComfyNode):
    """The optimizer and its learning rate."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _settings_schema(
            "PaveOptimizer",
            "Pave Optimizer",
            "The optimizer, its learning rate with warm-up and decay, and the clipping of its gradients.",
            schema.Optimizer.Output(display_name="optimizer", tooltip="For Pave Train (Advanced) or Pave Begin."),
            widgets.OPTIMIZER,
            ["adamw", "learning rate", "schedule", "cosine", "warmup"],
        )

    @classmethod
    def validate_inputs(cls, schedule: str | None = None, decay_steps: int | None = None, warmup_steps: int | None = None) -> bool | str:
        if schedule is None or decay_steps is None or warmup_steps is None:
            return True
        return schema.checked(lambda: widgets.optim_config({"schedule": schedule, "decay_steps": decay_steps, "warmup_steps": warmup_steps}))

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(widgets.optim_config(values))


NODES = [PavePolicy, PaveLoRASettings, PaveRolloutSettings, PaveObjective, PaveOptimizer]
