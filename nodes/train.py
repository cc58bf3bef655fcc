"""The main job: train a LoRA by Pave-GRPO."""

from __future__ import annotations

from typing import Any, get_args

from comfy_api.latest import io

from ..pave_core.config import Init, OptimizerStep, PaveConfig, RolloutConfig, Targets, TrainConfig, parse_int_set
from ..pave_core.errors import ConfigError
from ..pave_core.run_folder import safe_name
from .host import folders
from .host.policy import SCHEDULERS, SamplingSettings
from .host.run import RunSettings, run_training
from .presets import PRESET_NAMES, preset_widgets, train_config
from .schema import CATEGORY, LoraModel, LossMap, Prompts, Reward, advanced

NO_RESUME = "none"
_DEFAULTS = preset_widgets(TrainConfig())


def _int(name: str, low: int, high: int, tooltip: str, step: int = 1) -> Any:
    return io.Int.Input(name, default=_DEFAULTS[name], min=low, max=high, step=step, tooltip=tooltip)


def _float(name: str, low: float, high: float, step: float, tooltip: str) -> Any:
    return io.Float.Input(name, default=_DEFAULTS[name], min=low, max=high, step=step, tooltip=tooltip)


def _text(name: str, tooltip: str) -> Any:
    return io.String.Input(name, default=_DEFAULTS[name], tooltip=tooltip)


def _choice(name: str, literal: Any, tooltip: str) -> Any:
    return io.Combo.Input(name, options=list(get_args(literal)), default=_DEFAULTS[name], tooltip=tooltip)


def _sockets() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="The flow model you generate with, from any loader, patched or not. It is left as it is."),
        io.Clip.Input("clip", tooltip="Its text encoder."),
        io.Vae.Input("vae", tooltip="Its VAE."),
        Prompts.Input("prompts", tooltip="What to draw while training, and the held-out prompts."),
        Reward.Input("reward", tooltip="What you like: any reward, or a mix."),
        Reward.Input("judge", optional=True, tooltip="A second opinion: measured before and after on the held-out prompts, never trained on."),
    ]


def _method_widgets() -> list[Any]:
    """The settings that a preset fixes, in the order of presets.preset_widgets."""
    return [
        _int("iterations", 1, 100_000, "Training steps. The paper trains 300."),
        _int("prompts_per_step", 1, 64, "Prompts drawn in each step. More give a steadier gradient and take longer."),
        _float("learning_rate", 1e-7, 1.0, 1e-7, "AdamW's learning rate. 1e-4 for large models, 5e-4 for the bundled one."),
        _int("rank", 1, 512, "The LoRA's rank: how much it can hold."),
        _float("alpha", 0.01, 1024.0, 0.01, "The LoRA's scale is alpha / rank. Twice the rank is the paper's."),
        _choice("targets", Targets, "The layers that get an adapter."),
        _int("steps", 2, 200, "T: denoising steps of an image while training. Few are enough: the decomposition makes up for it."),
        _text("branch_steps", "K: the denoising steps that explore. Counted from 0; the last step can not be one."),
        _int("group_size", 2, 64, "G: images compared with each other at each branch step. Each step draws prompts x K x G images."),
        _float("eta", 0.01, 2.0, 0.01, "How much noise a branch step adds. More explores further."),
        _text("segments", "S: each branch step is decomposed into this many finer steps in the loss. Empty is plain GRPO."),
        advanced(_float("advantage_clip", 0.1, 100.0, 0.1, "Advantages are clamped to plus and minus this.")),
        advanced(_int("batch_size", 1, 256, "Images in one network call. Lower it if memory runs out; it does not change what is learnt.")),
        advanced(_int("checkpoint_every", 1, 100_000, "Steps between checkpoints. Cancel always writes one.")),
        advanced(_choice("init", Init, "How the LoRA's A matrices begin; B begins at 0, so the first image is the model's own.")),
        advanced(_float("weight_decay", 0.0, 1.0, 1e-5, "AdamW's weight decay.")),
        advanced(_float("max_grad_norm", 0.001, 1000.0, 0.001, "Gradients are clipped to this norm.")),
        advanced(_int("warmup_steps", 0, 100_000, "Steps over which the learning rate rises to its value.")),
        advanced(_choice("optimizer_step", OptimizerStep, "accumulated: one optimizer step an iteration. per_step: one after each branch step.")),
    ]


def _run_widgets() -> list[Any]:
    return [
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**53 - 1,
            control_after_generate=False,
            tooltip="Everything random follows from it: the same seed on the same machine gives the same LoRA.",
        ),
        io.Int.Input(
            "width",
            default=512,
            min=16,
            max=4096,
            step=8,
            tooltip="Image width while training. 64 for the bundled model, 512 for large ones; they carry over to larger images.",
        ),
        io.Int.Input("height", default=512, min=16, max=4096, step=8, tooltip="Image height while training."),
        io.Float.Input(
            "cfg",
            default=1.0,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip="Classifier-free guidance, as in your KSampler. 1 switches it off and is twice as fast.",
        ),
        io.String.Input(
            "run_name",
            default="pave",
            tooltip="The run's folder is output/pave/<name>_<number>; metrics, TensorBoard events, checkpoint and pictures are kept there.",
        ),
        io.Combo.Input(
            "resume",
            options=[NO_RESUME, *folders.resumable_runs()],
            default=NO_RESUME,
            tooltip="Go on with a run that was cancelled or is to be longer. All other settings must be as they were. Press R to refresh the list.",
        ),
        advanced(io.String.Input("negative_prompt", default="", tooltip="As in your KSampler; only matters when cfg is not 1.")),
        advanced(
            io.Float.Input(
                "guidance",
                default=3.5,
                min=0.0,
                max=30.0,
                step=0.1,
                tooltip="Embedded guidance of distilled models such as FLUX.1-dev; others ignore it.",
            )
        ),
        advanced(io.Combo.Input("scheduler", options=SCHEDULERS, default="simple", tooltip="The sigma schedule, as in your KSampler.")),
        advanced(
            io.Int.Input(
                "evaluation_seeds",
                default=4,
                min=1,
                max=256,
                tooltip="Images of each held-out prompt, from seeds 1, 2, 3, ... (the same before and after).",
            )
        ),
        advanced(
            io.Int.Input(
                "evaluate_every",
                default=0,
                min=0,
                max=100_000,
                tooltip="Steps between evaluations on the held-out prompts. 0: only before and after.",
            )
        ),
    ]


class PaveTrain(io.ComfyNode):
    """Train a LoRA toward a reward."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PaveTrain",
            display_name="Pave Train",
            category=CATEGORY,
            description="Tunes the model toward what the reward likes, by Pave-GRPO (arXiv 2606.01636), and gives a LoRA. Cancel keeps "
            "everything learnt so far.",
            inputs=[
                *_sockets(),
                io.Combo.Input(
                    "preset",
                    options=PRESET_NAMES,
                    default="custom",
                    tooltip="custom: the settings below count. quick: minutes, for the bundled model. paper: the released FLUX settings. A "
                    "preset sets everything from iterations to optimizer_step, whatever the fields below say.",
                ),
                *_method_widgets(),
                *_run_widgets(),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model with the LoRA applied, ready for a KSampler."),
                LoraModel.Output(display_name="lora", tooltip="The LoRA, for Pave Save LoRA or the stock Save LoRA Weights."),
                LossMap.Output(
                    display_name="loss_map",
                    tooltip="For the stock Plot Loss Graph. It holds minus the reward: the loss of GRPO itself is about 0 whatever happens.",
                ),
                io.Image.Output(display_name="curve", tooltip="The rewards over the steps."),
                io.Image.Output(display_name="grid", tooltip="Held-out prompts before and after, from the same seeds."),
                io.String.Output(display_name="summary", tooltip="The figures in words."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls, steps: int | None = None, branch_steps: str | None = None, segments: str | None = None, run_name: str | None = None
    ) -> bool | str:
        """What the widgets' own ranges do not say; a linked input is None here and is checked when the node runs.

        The host repeats the message for each field that is named here, so they are few.
        """
        try:
            if steps is not None and branch_steps is not None:
                RolloutConfig(steps=steps, branch_steps=parse_int_set("branch_steps", branch_steps))
            if segments is not None:
                PaveConfig(segments=parse_int_set("segments", segments))
            if run_name is not None:
                safe_name("run_name", run_name)
        except ConfigError as error:
            return str(error)
        return True

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
        judge=None,
        **method,
    ) -> io.NodeOutput:
        result = run_training(
            model,
            clip,
            vae,
            prompts,
            reward,
            judge,
            config=train_config(preset, seed, method),
            sampling=SamplingSettings(width, height, scheduler, cfg, guidance, negative_prompt),
            settings=RunSettings(run_name, None if resume == NO_RESUME else resume, tuple(range(1, evaluation_seeds + 1)), evaluate_every),
            node_id=cls.hidden.unique_id,
        )
        return io.NodeOutput(result.model, result.lora, result.loss_map, result.curve, result.grid, result.summary)


NODES = [PaveTrain]
