"""Settings as nodes, which a graph can share between its training nodes, as SamplerCustomAdvanced has for sampling."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..pave_core.config.adapter import LoraConfig
from ..pave_core.config.fields import from_shown
from ..pave_core.config.objective import PaveConfig
from ..pave_core.config.optimizer import OptimConfig
from ..pave_core.config.presets import CUSTOM, preset_config
from ..pave_core.config.rollout import RolloutConfig
from ..pave_core.policies.diffusers.folder import DTYPES
from ..pave_core.policies.diffusers.tiny import TINY_PIPELINE
from .host import folders
from .host.graphs import queue
from .host.graphs.settings import check_part
from .host.policy.pipeline import PipelineSettings
from .host.policy.settings import Guidance, Picture, PolicySettings, RolloutSettings
from .shared import schema
from .shared.presets import part_config, preset_input
from .shared.widgets import names_of, widgets


class PavePolicy(io.ComfyNode):
    """The model to tune, its guidance, and the adapter that it gets."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PavePolicy",
            "Pave Policy",
            "The model to tune, as you generate with it: MODEL, CLIP and VAE of your workflow, the guidance of your "
            "KSampler, and the LoRA that it will get. For Pave Train (Advanced) and Pave Begin.",
            terms=["model to train", "grpo policy", "reinforcement learning"],
            category=schema.SETTINGS,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The flow model you generate with, from any loader, patched or not. It is left as it is.",
                ),
                io.Clip.Input("clip", tooltip="Its text encoder."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                schema.LoraSettings.Input(
                    "lora",
                    optional=True,
                    tooltip="The LoRA to train. If not connected: the paper's rank and alpha, on the attention layers.",
                ),
                *widgets(*names_of(Guidance)),
            ],
            outputs=[schema.Policy.Output(display_name="policy", tooltip="For Pave Train (Advanced) or Pave Begin.")],
        )

    @classmethod
    def execute(cls, model, clip, vae, lora=None, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(PolicySettings(model, clip, vae, lora or LoraConfig(), from_shown(Guidance, values)))


class PaveDiffusersPolicy(io.ComfyNode):
    """A diffusers pipeline to tune."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveDiffusersPolicy",
            "Pave Diffusers Policy",
            "The model to tune as a folder of a diffusers pipeline, instead of MODEL, CLIP and VAE: SD3, FLUX, "
            "Qwen-Image, Z-Image, AuraFlow, Lumina 2, Sana, Wan, LTX. The LoRA is for ComfyUI's Load LoRA all the "
            "same. For Pave Train (Advanced) and Pave Begin.",
            terms=["diffusers", "pipeline", "hugging face", "model to train"],
            category=schema.SETTINGS,
            inputs=[
                io.Combo.Input(
                    "pipeline",
                    options=[TINY_PIPELINE, *folders.pipelines()],
                    tooltip="A folder with model_index.json in models/diffusers. Nothing is downloaded. The tiny one "
                    "has random weights: it draws patterns, for trying things out.",
                ),
                schema.LoraSettings.Input(
                    "lora",
                    optional=True,
                    tooltip="The LoRA to train. If not connected: the paper's rank and alpha, on the attention layers.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The same weights as a MODEL of ComfyUI, if you have them: the training node then gives it "
                    "out with the LoRA applied.",
                ),
                *widgets(*names_of(Guidance)),
                io.Combo.Input(
                    "precision",
                    options=list(DTYPES),
                    default="bf16",
                    tooltip="What the pipeline is loaded in. fp32 takes twice the memory.",
                ),
            ],
            outputs=[schema.Policy.Output(display_name="policy", tooltip="For Pave Train (Advanced) or Pave Begin.")],
        )

    @classmethod
    def execute(cls, pipeline, precision, lora=None, model=None, **values: Any) -> io.NodeOutput:
        folder = None if pipeline == TINY_PIPELINE else folders.pipeline(pipeline)
        lora, guidance = lora or LoraConfig(), from_shown(Guidance, values)
        return io.NodeOutput(PipelineSettings(folder, lora, guidance, DTYPES[precision], model))


class PaveLoRASettings(io.ComfyNode):
    """The settings of the adapter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveLoRASettings",
            "Pave LoRA Settings",
            "The LoRA to train: its rank, its scale and the layers it sits on. For Pave Policy.",
            terms=["rank", "alpha", "adapter", "peft"],
            category=schema.SETTINGS,
            inputs=widgets(*names_of(LoraConfig)),
            outputs=[schema.LoraSettings.Output(display_name="lora", tooltip="For Pave Policy.")],
        )

    @classmethod
    def execute(cls, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(from_shown(LoraConfig, values))


class PaveRolloutSettings(io.ComfyNode):
    """The settings of a rollout."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveRolloutSettings",
            "Pave Rollout Settings",
            "How images are generated while training: the denoising steps, which of them explore, how many images are "
            "compared, and their size.",
            terms=["sampling", "group size", "exploration", "sigmas"],
            category=schema.SETTINGS,
            inputs=[
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="A schedule of your own, from any scheduler node; it must fall from at most 1 to 0. It "
                    "replaces steps and scheduler.",
                ),
                *widgets(*names_of(RolloutConfig), *names_of(Picture)),
                preset_input("the rollout"),
            ],
            outputs=[
                schema.RolloutSettings.Output(
                    display_name="rollout", tooltip="For Pave Train (Advanced) or Pave Begin."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, branch_steps: str | None = None, coarser_tails: str | None = None) -> bool | str:
        return queue.validated(check_part)

    @classmethod
    def execute(cls, sigmas: Tensor | None = None, preset: str = CUSTOM, **values: Any) -> io.NodeOutput:
        grid = None if sigmas is None else tuple(sigmas.tolist())
        if grid is not None:
            values["steps"] = len(grid) - 1
        config = part_config(preset_config(preset).rollout, preset, values)
        return io.NodeOutput(RolloutSettings(config, from_shown(Picture, values, sigmas=grid)))


class PaveObjective(io.ComfyNode):
    """The settings of the loss."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveObjective",
            "Pave Objective",
            "The parts of the loss: into how many finer steps each branch step is decomposed, the weight of each part, "
            "and what keeps the model near an earlier one. Without segments it is plain GRPO.",
            terms=["loss", "segments", "decomposition", "grpo", "ppo clip", "kl"],
            category=schema.SETTINGS,
            inputs=[*widgets(*names_of(PaveConfig)), preset_input("the loss")],
            outputs=[
                schema.Objective.Output(display_name="objective", tooltip="For Pave Train (Advanced) or Pave Begin.")
            ],
        )

    @classmethod
    def validate_inputs(cls, segments: str | None = None, segment_weights: str | None = None) -> bool | str:
        return queue.validated(check_part)

    @classmethod
    def execute(cls, preset: str = CUSTOM, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(part_config(preset_config(preset).pave, preset, values))


class PaveOptimizer(io.ComfyNode):
    """The settings of the optimizer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveOptimizer",
            "Pave Optimizer",
            "The optimizer, its learning rate with warm-up and decay, and the clipping of its gradients.",
            terms=["adamw", "learning rate", "schedule", "cosine", "warmup"],
            category=schema.SETTINGS,
            inputs=[*widgets(*names_of(OptimConfig)), preset_input("the optimizer")],
            outputs=[
                schema.Optimizer.Output(display_name="optimizer", tooltip="For Pave Train (Advanced) or Pave Begin.")
            ],
        )

    @classmethod
    def validate_inputs(cls, schedule: str | None = None, decay_steps: int | None = None) -> bool | str:
        return queue.validated(check_part)

    @classmethod
    def execute(cls, preset: str = CUSTOM, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(part_config(preset_config(preset).optim, preset, values))


NODES = [PavePolicy, PaveDiffusersPolicy, PaveLoRASettings, PaveRolloutSettings, PaveObjective, PaveOptimizer]
