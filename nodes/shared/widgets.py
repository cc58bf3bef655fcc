"""The widgets that several nodes share, by name, and the core's settings that they make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from comfy_api.latest import io

from ...pave_core.config.train import (
    Init,
    LoraConfig,
    OptimConfig,
    OptimizerName,
    OptimizerStep,
    PaveConfig,
    RolloutConfig,
    Schedule,
    Targets,
    TrainConfig,
    parse_int_set,
    parse_segments,
)
from ..host import folders
from ..host.policy.native import SCHEDULERS
from .schema import advanced

NO_RESUME = "none"

LORA = ("rank", "alpha", "targets", "init")
GUIDANCE = ("cfg", "negative_prompt", "guidance")
ROLLOUT = ("steps", "branch_steps", "group_size", "eta", "batch_size")
PICTURE = ("width", "height", "scheduler")
OBJECTIVE = ("segments", "advantage_clip", "plain_weight", "segment_weights")
OPTIMIZER = (
    "optimizer",
    "learning_rate",
    "schedule",
    "decay_steps",
    "warmup_steps",
    "weight_decay",
    "beta1",
    "beta2",
    "max_grad_norm",
    "optimizer_step",
)
STORAGE = ("run_name", "resume")
MEASURE = ("evaluation_seeds", "evaluate_every", "check_reward")


def setting_values(config: TrainConfig) -> dict[str, Any]:
    """{widget: value} of every setting of `config`."""
    rollout, pave, lora, optim, run = config.rollout, config.pave, config.lora, config.optim, config.run
    return {
        "iterations": run.iterations,
        "prompts_per_step": run.prompts_per_step,
        "learning_rate": optim.learning_rate,
        "rank": lora.rank,
        "alpha": lora.alpha,
        "targets": lora.targets,
        "steps": rollout.steps,
        "branch_steps": ", ".join(map(str, rollout.branch_steps)),
        "group_size": rollout.group_size,
        "eta": rollout.eta,
        "segments": ", ".join(map(str, pave.segments)),
        "advantage_clip": pave.advantage_clip,
        "batch_size": rollout.batch_size,
        "checkpoint_every": run.checkpoint_every,
        "init": lora.init,
        "weight_decay": optim.weight_decay,
        "max_grad_norm": optim.max_grad_norm,
        "warmup_steps": optim.warmup_steps,
        "optimizer_step": optim.step,
        "optimizer": optim.optimizer,
        "schedule": optim.schedule,
        "decay_steps": optim.decay_steps,
        "beta1": optim.betas[0],
        "beta2": optim.betas[1],
        "plain_weight": pave.plain_weight,
        "segment_weights": ", ".join(f"{w:g}" for w in pave.segment_weights),
    }


DEFAULTS = setting_values(TrainConfig())


def lora_config(values: Mapping[str, Any]) -> LoraConfig:
    """The adapter that the LORA widgets describe."""
    return LoraConfig(**{name: values[name] for name in LORA})


def rollout_config(values: Mapping[str, Any]) -> RolloutConfig:
    """The rollout that the ROLLOUT widgets describe."""
    plain = {name: values[name] for name in ROLLOUT if name != "branch_steps"}
    return RolloutConfig(branch_steps=parse_int_set("branch_steps", values["branch_steps"]), **plain)


def pave_config(values: Mapping[str, Any]) -> PaveConfig:
    """The objective that the OBJECTIVE widgets describe."""
    values = DEFAULTS | dict(values)
    segments, weights = parse_segments(values["segments"], values["segment_weights"])
    return PaveConfig(segments, values["advantage_clip"], values["plain_weight"], weights)


def optim_config(values: Mapping[str, Any]) -> OptimConfig:
    """The optimizer that the OPTIMIZER widgets describe."""
    values = DEFAULTS | dict(values)
    return OptimConfig(
        learning_rate=values["learning_rate"],
        betas=(values["beta1"], values["beta2"]),
        weight_decay=values["weight_decay"],
        max_grad_norm=values["max_grad_norm"],
        warmup_steps=values["warmup_steps"],
        step=values["optimizer_step"],
        optimizer=values["optimizer"],
        schedule=values["schedule"],
        decay_steps=values["decay_steps"],
    )


def widgets(*names: str) -> list[Any]:
    """Fresh inputs of these names, in this order."""
    return [_WIDGETS[name](name) for name in names]


def _int(low: int, high: int, tooltip: str, step: int = 1, default: int | None = None) -> Any:
    return lambda name: io.Int.Input(name, default=DEFAULTS[name] if default is None else default, min=low, max=high, step=step, tooltip=tooltip)


def _float(low: float, high: float, step: float, tooltip: str, default: float | None = None) -> Any:
    return lambda name: io.Float.Input(name, default=DEFAULTS[name] if default is None else default, min=low, max=high, step=step, tooltip=tooltip)


def _text(tooltip: str, default: str | None = None) -> Any:
    return lambda name: io.String.Input(name, default=DEFAULTS[name] if default is None else default, tooltip=tooltip)


def _choice(options: list[str], tooltip: str, default: str | None = None) -> Any:
    return lambda name: io.Combo.Input(name, options=options, default=DEFAULTS[name] if default is None else default, tooltip=tooltip)


def _expert(make: Any) -> Any:
    return lambda name: advanced(make(name))


def _resume(name: str) -> Any:
    tooltip = "Go on with a run that was cancelled or is to be longer. All other settings must be as they were. Press R to refresh the list."
    return io.Combo.Input(name, options=[NO_RESUME, *folders.resumable_runs()], default=NO_RESUME, tooltip=tooltip)


def _seed(name: str) -> Any:
    tooltip = "Everything random follows from it: the same seed on the same machine gives the same LoRA."
    return io.Int.Input(name, default=0, min=0, max=2**53 - 1, control_after_generate=False, tooltip=tooltip)


_WIDGETS: dict[str, Any] = {
    "iterations": _int(1, 100_000, "Training steps. The paper trains 300."),
    "prompts_per_step": _int(1, 64, "Prompts drawn in each step. More give a steadier gradient and take longer."),
    "seed": _seed,
    # the adapter
    "rank": _int(1, 512, "The LoRA's rank: how much it can hold."),
    "alpha": _float(0.01, 1024.0, 0.01, "The LoRA's scale is alpha / rank. Twice the rank is the paper's."),
    "targets": _choice(list(get_args(Targets)), "The layers that get an adapter."),
    "init": _expert(_choice(list(get_args(Init)), "How the LoRA's A matrices begin; B begins at 0, so the first image is the model's own.")),
    # how images are drawn
    "steps": _int(2, 200, "T: denoising steps of an image while training. Few are enough: the decomposition makes up for it."),
    "branch_steps": _text("K: the denoising steps that explore. Counted from 0; the last step can not be one."),
    "group_size": _int(2, 64, "G: images compared with each other at each branch step. Each step draws prompts x K x G images."),
    "eta": _float(0.01, 2.0, 0.01, "How much noise a branch step adds. More explores further."),
    "batch_size": _expert(_int(1, 256, "Images in one network call. Lower it if memory runs out; it does not change what is learnt.")),
    "width": _int(
        16, 4096, "Image width while training. 64 for the bundled model, 512 for large ones; they carry over to larger images.", 8, default=512
    ),
    "height": _int(16, 4096, "Image height while training.", 8, default=512),
    "scheduler": _expert(_choice(SCHEDULERS, "The sigma schedule, as in your KSampler.", default="simple")),
    # guidance
    "cfg": _float(0.0, 30.0, 0.1, "Classifier-free guidance, as in your KSampler. 1 switches it off and is twice as fast.", default=1.0),
    "negative_prompt": _expert(_text("As in your KSampler; only matters when cfg is not 1.", default="")),
    "guidance": _expert(_float(0.0, 30.0, 0.1, "Embedded guidance of distilled models such as FLUX.1-dev; others ignore it.", default=3.5)),
    # the objective
    "segments": _text("S: each branch step is decomposed into this many finer steps in the loss. Empty is plain GRPO."),
    "advantage_clip": _expert(_float(0.1, 100.0, 0.1, "Advantages are clamped to plus and minus this.")),
    "plain_weight": _expert(_float(0.0, 100.0, 0.05, "The weight of the plain, undecomposed step in the loss. The paper's is 1.")),
    "segment_weights": _expert(_text("A weight for each of the segments, in their order, such as 1, 0.5. Empty: all 1, as in the paper.")),
    # the optimizer
    "optimizer": _choice(list(get_args(OptimizerName)), "The optimizer, from torch. AdamW is the paper's."),
    "learning_rate": _float(1e-7, 1.0, 1e-7, "The optimizer's learning rate. 1e-4 for large models, 5e-4 for the bundled one."),
    "schedule": _choice(list(get_args(Schedule)), "constant, or a fall to 0 at decay_steps after the warm-up."),
    "decay_steps": _int(0, 100_000, "Where cosine and linear reach 0: the number of training steps. Unused with constant."),
    "warmup_steps": _expert(_int(0, 100_000, "Steps over which the learning rate rises to its value.")),
    "weight_decay": _expert(_float(0.0, 1.0, 1e-5, "The optimizer's weight decay.")),
    "beta1": _expert(_float(0.0, 0.9999, 0.0001, "The smoothing of the gradient; SGD's momentum. RMSprop has none.")),
    "beta2": _expert(_float(0.0, 0.99999, 0.00001, "The smoothing of the squared gradient. SGD has none.")),
    "max_grad_norm": _expert(_float(0.001, 1000.0, 0.001, "Gradients are clipped to this norm.")),
    "optimizer_step": _expert(
        _choice(list(get_args(OptimizerStep)), "accumulated: one optimizer step an iteration. per_step: one after each branch step.")
    ),
    # the run
    "checkpoint_every": _expert(_int(1, 100_000, "Steps between checkpoints. Cancel always writes one.")),
    "run_name": _text(
        "The run's folder is output/pave/<name>_<number>; metrics, TensorBoard events, checkpoint and pictures are kept there.", default="pave"
    ),
    "resume": _resume,
    "evaluation_seeds": _expert(_int(1, 256, "Images of each held-out prompt, from seeds 1, 2, 3, ... (the same before and after).", default=4)),
    "check_reward": _expert(
        lambda name: io.Boolean.Input(
            name,
            default=True,
            optional=True,  # prompts that were written for an older version do not have it
            tooltip="Draw a few groups before the first step and stop if the reward can not tell their images apart.",
        )
    ),
    "evaluate_every": _expert(_int(0, 100_000, "Steps between evaluations on the held-out prompts. 0: only before and after.", default=0)),
}
