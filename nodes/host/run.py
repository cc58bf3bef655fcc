"""One training run on the host's objects: from MODEL, CLIP and VAE to a LoRA, its pictures and its folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import comfy.sd
import torch
from comfy.model_management import InterruptProcessingException
from comfy.model_patcher import ModelPatcher
from comfyui_version import __version__ as comfyui_version
from torch import Tensor

from ...pave_core import __version__
from ...pave_core.checkpoint import check_recipe, load_checkpoint, save_checkpoint
from ...pave_core.config import TrainConfig
from ...pave_core.errors import ConfigError
from ...pave_core.evaluation import Evaluation, evaluate, summarise
from ...pave_core.plots import before_after_grid, reward_curve
from ...pave_core.prompts import PromptSet
from ...pave_core.recipe import LoraWeights, save_lora
from ...pave_core.rewards.base import RewardMix, describe, require_spread
from ...pave_core.run_folder import RunFolder
from ...pave_core.trainer import TrainState, train
from ...pave_core.types import Cond, Reward, StepMetrics
from . import folders
from .policy import NativeDecoder, NativePolicy, SamplingSettings
from .progress import Progress

logger = logging.getLogger("pave")


@dataclass(frozen=True)
class RunSettings:
    """Where a run is kept and what it is measured on."""

    name: str
    resume: str | None
    evaluation_seeds: tuple[int, ...]
    evaluate_every: int  # 0: only before and after


@dataclass(frozen=True)
class RunResult:
    """What Pave Train gives out."""

    model: ModelPatcher
    lora: LoraWeights
    loss_map: dict[str, list[float]]
    curve: Tensor  # (1, H, W, 3)
    grid: Tensor  # (1, H, W, 3)
    summary: str


@dataclass
class _Run:
    """A run under way."""

    policy: NativePolicy
    decoder: NativeDecoder
    reward: RewardMix
    conds: Mapping[str, Cond]  # of the training prompts
    config: TrainConfig
    evaluate_every: int
    measure: Callable[[], Evaluation]
    folder: RunFolder
    recipe: dict[str, Any]
    progress: Progress

    def lora(self, step: int) -> LoraWeights:
        return LoraWeights(self.policy.export(), self.recipe | {"step": step})

    def keep(self, state: TrainState) -> Path:
        """Write the checkpoint and the LoRA so far; the LoRA's path."""
        save_checkpoint(self.folder.checkpoint, state.capture(self.recipe))
        path = folders.lora_of_run(self.folder.name)
        save_lora(path, self.lora(state.step))
        return path

    def train(self, state: TrainState, history: list[dict[str, Any]], evaluations: dict[int, Evaluation]) -> None:
        """Train to the end; whatever stops it, what was learnt is kept."""
        try:
            for metrics in train(self.policy, self.decoder, self.reward, self.conds, self.config, state):
                history.append(self.folder.log(metrics))
                self.progress.step(metrics)
                self._every(metrics, state, evaluations)
        except BaseException as error:
            why = "cancelled" if isinstance(error, InterruptProcessingException) else f"stopped ({type(error).__name__})"
            lora = self.keep(state)
            logger.warning(
                f"Pave-GRPO {why} after step {state.step}: LoRA so far in {lora}, checkpoint in {self.folder.checkpoint}; "
                f"to go on, set resume to {self.folder.name!r}"
            )
            raise
        finally:
            self.folder.close()

    def _every(self, metrics: StepMetrics, state: TrainState, evaluations: dict[int, Evaluation]) -> None:
        last = metrics.step == self.config.run.iterations
        if metrics.step % self.config.run.checkpoint_every == 0 or last:
            self.keep(state)
        if (self.evaluate_every and metrics.step % self.evaluate_every == 0) or last:
            evaluations[metrics.step] = evaluation = self.measure()
            self.folder.log_scalars({"held_out/reward": evaluation.total.mean().item()}, metrics.step)


def run_training(
    model: ModelPatcher,
    clip: comfy.sd.CLIP,
    vae: comfy.sd.VAE,
    prompts: PromptSet,
    reward: Reward | RewardMix,
    judge: Reward | None,
    config: TrainConfig,
    sampling: SamplingSettings,
    settings: RunSettings,
    node_id: str | None,
) -> RunResult:
    """Train a LoRA on a clone of `model`; `model` itself generates as before afterwards.

    Raises ConfigError for input that can not work, before anything is written; the host's interruption after Cancel, when
    checkpoint and LoRA are kept.
    """
    started = time.perf_counter()
    mix = RewardMix.of(reward)
    with torch.inference_mode(False), NativePolicy(model, clip, vae, sampling, config.lora, config.run.seed) as policy:
        recipe = _recipe(policy, prompts, mix, judge, config, sampling)
        state = TrainState.begin(policy, config)
        resumed = None if settings.resume is None else _resume(settings.resume, state, recipe, config)
        conds = {prompt: policy.encode(prompt) for prompt in (*prompts.train, *prompts.held_out)}
        decoder = NativeDecoder(model, vae)
        evaluated = {prompt: conds[prompt] for prompt in prompts.evaluated}
        measure = partial(evaluate, policy, decoder, mix, judge, evaluated, settings.evaluation_seeds, config.rollout)
        with policy.reference():
            evaluations = {0: measure()}
        require_spread(evaluations[0].scores)

        folder, history = resumed or (RunFolder.new(folders.runs(), settings.name), [])
        logger.info(f"Pave-GRPO: {len(prompts.train)} prompts to train on, {len(prompts.held_out)} held out, run folder {folder.path}")
        trained_on = {prompt: conds[prompt] for prompt in prompts.train}
        progress = Progress(node_id, config.run.iterations)
        run = _Run(policy, decoder, mix, trained_on, config, settings.evaluate_every, measure, folder, recipe, progress)
        run.train(state, history, evaluations)
        lora = run.lora(config.run.iterations)
    # The adapter is out of the model again: the host's own patching sees the layer names that it knows.
    trained, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    assert trained is not None  # it is None only where no model is given
    return _finish(run.folder, prompts, config, trained, lora, history, evaluations, time.perf_counter() - started)


def _recipe(
    policy: NativePolicy, prompts: PromptSet, mix: RewardMix, judge: Reward | None, config: TrainConfig, sampling: SamplingSettings
) -> dict[str, Any]:
    return {
        "pack": __version__,
        "comfyui": comfyui_version,
        "method": "Pave-GRPO (arXiv 2606.01636)",
        "model": policy.fingerprint(),
        "config": config.to_dict(),
        "sampling": sampling.to_dict(),
        "reward": mix.describe(),
        "judge": describe(judge) if judge is not None else None,
        "prompts": list(prompts.train),
        "held_out": list(prompts.held_out),
    }


def _resume(name: str, state: TrainState, recipe: dict[str, Any], config: TrainConfig) -> tuple[RunFolder, list[dict[str, Any]]]:
    """Restore `state` from the run `name`; its folder and the records of the steps that are done."""
    folder = RunFolder.existing(folders.runs(), name)
    checkpoint = load_checkpoint(folder.checkpoint)
    versions = ("pack", "comfyui")
    saved, now = ({k: v for k, v in r.items() if k not in versions} for r in (checkpoint.recipe, recipe))
    check_recipe(saved, now)
    if checkpoint.step >= config.run.iterations:
        raise ConfigError(
            f"iterations: {name!r} has done {checkpoint.step} of {config.run.iterations} already: raise iterations, or set resume to none"
        )
    state.restore(checkpoint)
    return folder, folder.rewind(checkpoint.step)


def _finish(
    folder: RunFolder,
    prompts: PromptSet,
    config: TrainConfig,
    trained: ModelPatcher,
    lora: LoraWeights,
    history: list[dict[str, Any]],
    evaluations: dict[int, Evaluation],
    seconds: float,
) -> RunResult:
    before, after = evaluations[0], evaluations[config.run.iterations]
    curve, grid = reward_curve(history, evaluations), before_after_grid(before, after)
    figures = summarise(before, after) | {
        "steps": config.run.iterations,
        "train_seconds": seconds,
        "zero_spread_groups": sum(r["zero_spread_groups"] for r in history),
        "groups": sum(r["groups"] for r in history),
        "skipped_steps": sum(r["skipped"] for r in history),
        "held_out_prompts": len(prompts.held_out),
        "run_folder": str(folder.path),
        "lora": str(folders.lora_of_run(folder.name)),
        "curve": str(folder.save_picture("curve", curve)),
        "grid": str(folder.save_picture("grid", grid)),
    }
    folder.save_summary(figures)
    # The loss of GRPO is about 0 whatever happens (its gradient is not): minus the reward is what a falling curve should show.
    loss_map = {"loss": [-r["reward_mean"] for r in history if r["reward_mean"] is not None]}
    return RunResult(trained, lora, loss_map, curve.unsqueeze(0), grid.unsqueeze(0), summary_text(figures))


def summary_text(figures: Mapping[str, Any]) -> str:
    """The figures of summary.json for a person."""
    gain = figures["reward_after"] - figures["reward_before"]
    error = figures["reward_se"]
    where = f"{figures['held_out_prompts']} held-out prompts" if figures["held_out_prompts"] else "the training prompts (none are held out)"
    lines = [
        f"{figures['steps']} steps in {figures['train_seconds']:.0f} s",
        f"reward on {where}, {figures['held_out_images']} images: {figures['reward_before']:.4f} -> {figures['reward_after']:.4f} (gain "
        f"{gain:+.4f} +- {error:.4f})",
    ]
    if len(figures["rewards"]) > 1:
        lines += [f"  {name}: {r['before']:.4f} -> {r['after']:.4f} (+- {r['se']:.4f})" for name, r in figures["rewards"].items()]
    if figures["judge_before"] is not None:
        lines.append(f"judge, never trained on: {figures['judge_before']:.4f} -> {figures['judge_after']:.4f}")
    if figures["zero_spread_groups"]:
        lines.append(f"{figures['zero_spread_groups']} of {figures['groups']} groups had no spread and taught nothing")
    if figures["skipped_steps"]:
        lines.append(f"{figures['skipped_steps']} steps were skipped: loss or gradient not finite")
    if gain <= 2 * error:
        lines.append("The gain is within the noise: train longer, raise learning_rate, or use a reward that grades these images more finely.")
    return "\n".join([*lines, f"run folder: {figures['run_folder']}", f"LoRA: {figures['lora']}"])
