"""One training run on the host's objects: from MODEL, CLIP and VAE to a LoRA, its pictures and its folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from ...pave_core.types import Reward, StepMetrics
from . import folders
from .policy import NativeDecoder, NativePolicy, PolicySettings, RolloutSettings, SamplingSettings
from .progress import Progress

logger = logging.getLogger("pave")

SCORED_BY_NODES = "scored by nodes of the graph"


@dataclass(frozen=True)
class RunSettings:
    """Where a run is kept and what it is measured on."""

    name: str
    resume: str | None
    evaluation_seeds: tuple[int, ...]
    evaluate_every: int  # 0: only before and after
    iterations: int | None = None  # the whole run's, to refuse resuming one that is done; None where a graph says how many steps are made


@dataclass(frozen=True)
class RunResult:
    """What Pave Train gives out."""

    model: ModelPatcher
    lora: LoraWeights
    loss_map: dict[str, list[float]]
    curve: Tensor  # (1, H, W, 3)
    grid: Tensor | None  # (1, H, W, 3); None where nothing was measured
    summary: str


class Run:
    """A run under way, the owner of everything in it that changes. Raises ConfigError for input that can not work, before anything is written.

    `reward` is what the held-out prompts are measured with, before the first step and after the last; None where only nodes of a graph can score.
    """

    def __init__(
        self,
        policy: PolicySettings,
        rollout: RolloutSettings,
        prompts: PromptSet,
        reward: Reward | RewardMix | None,
        judge: Reward | None,
        config: TrainConfig,
        settings: RunSettings,
    ) -> None:
        if judge is not None and reward is None:
            raise ConfigError("judge: it is measured together with the reward: connect a reward as well, or leave the judge open")
        self._started = time.perf_counter()
        self.config = config
        self.settings = settings
        self.reward = None if reward is None else RewardMix.of(reward)
        self.evaluations: dict[int, Evaluation] = {}
        self.decoder = NativeDecoder(policy.model, policy.vae)
        self._source, self._prompts, self._judge = policy, prompts, judge
        self._sampling = SamplingSettings.of(policy, rollout)
        self._progress = Progress()
        self._kept = -1  # the step that the files on disk are of
        self.policy = NativePolicy(policy.model, policy.clip, policy.vae, self._sampling, config.lora, config.run.seed)
        with self.active():
            self._base = self.policy.fingerprint()
            self.state = TrainState.begin(self.policy, config)
            resumed = None if settings.resume is None else self._resume(settings.resume)
            self.policy.sigmas(config.rollout.steps)  # a schedule that can not work is refused here
            conds = {prompt: self.policy.encode(prompt) for prompt in (*prompts.train, *prompts.held_out)}
            self.conds = {prompt: conds[prompt] for prompt in prompts.train}
            self._evaluated = {prompt: conds[prompt] for prompt in prompts.evaluated}
            if self.reward is not None:
                with self.policy.reference():
                    self.evaluations[0] = self._measure(self.reward)
                require_spread(self.evaluations[0].scores)
        self.folder, self.history = resumed or (RunFolder.new(folders.runs(), settings.name), [])
        logger.info(f"Pave-GRPO: {len(prompts.train)} prompts to train on, {len(prompts.held_out)} held out, run folder {self.folder.path}")

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, the adapter is in the model and gradients can be taken."""
        with torch.inference_mode(False), self.policy:
            yield

    def expect(self, steps: int) -> None:
        """Announce that `steps` more steps will be made."""
        self.config = replace(self.config, run=replace(self.config.run, iterations=self.state.step + steps))

    def recipe(self) -> dict[str, Any]:
        """Everything that is needed to train this LoRA again, as JSON values."""
        return {
            "pack": __version__,
            "comfyui": comfyui_version,
            "method": "Pave-GRPO (arXiv 2606.01636)",
            "model": self._base,
            "config": self.config.to_dict(),
            "sampling": self._sampling.to_dict(),
            "reward": SCORED_BY_NODES if self.reward is None else self.reward.describe(),
            "judge": describe(self._judge) if self._judge is not None else None,
            "prompts": list(self._prompts.train),
            "held_out": list(self._prompts.held_out),
        }

    def lora(self) -> LoraWeights:
        """The LoRA so far."""
        return LoraWeights(self.policy.export(), self.recipe() | {"step": self.state.step})

    def keep(self) -> Path:
        """Write the checkpoint and the LoRA so far; the LoRA's path."""
        path = folders.lora_of_run(self.folder.name)
        if self._kept != self.state.step:
            save_checkpoint(self.folder.checkpoint, self.state.capture(self.recipe()))
            save_lora(path, self.lora())
            self._kept = self.state.step
        return path

    def after_step(self, metrics: StepMetrics, node_id: str | None) -> None:
        """Log, report, save and measure, each when it is due. Inside active()."""
        self.history.append(self.folder.log(metrics))
        self._progress.step(metrics, self.config.run.iterations, node_id)
        if metrics.step % self.config.run.checkpoint_every == 0 or metrics.step >= self.config.run.iterations:
            self.keep()
        every = self.settings.evaluate_every
        if every and metrics.step % every == 0:
            self._evaluate()

    def stop(self, why: str) -> None:
        """Keep what was learnt by a run that does not reach its end, and say where."""
        self.folder.close()
        if self.state.step == 0:
            self.folder.discard()
            logger.warning(f"Pave-GRPO {why} before its first step: there is nothing to keep")
            return
        lora = self.keep()
        logger.warning(
            f"Pave-GRPO {why} after step {self.state.step}: LoRA so far in {lora}, checkpoint in {self.folder.checkpoint}; "
            f"to go on, set resume to {self.folder.name!r}"
        )

    def finish(self) -> RunResult:
        """Measure, save, draw the pictures. Outside active(): afterwards the host's own patching sees the layer names that it knows."""
        with self.active():
            self._evaluate()
            self.keep()
            lora = self.lora()
        self.folder.close()
        trained, _ = comfy.sd.load_lora_for_models(self._source.model, None, lora, 1.0, 0.0)
        assert trained is not None  # it is None only where no model is given
        curve = reward_curve(self.history, self.evaluations)
        self.folder.save_picture("curve", curve)
        grid = None
        if self.evaluations:
            grid = before_after_grid(self.evaluations[0], self.evaluations[self.state.step])
            self.folder.save_picture("grid", grid)
            grid = grid.unsqueeze(0)
        figures = self._figures()
        self.folder.save_summary(figures)
        # The loss of GRPO is about 0 whatever happens (its gradient is not): minus the reward is what a falling curve should show.
        loss_map = {"loss": [-r["reward_mean"] for r in self.history if r["reward_mean"] is not None]}
        return RunResult(trained, lora, loss_map, curve.unsqueeze(0), grid, summary_text(figures))

    def _evaluate(self) -> None:
        if self.reward is not None and self.state.step not in self.evaluations:
            self.evaluations[self.state.step] = evaluation = self._measure(self.reward)
            self.folder.log_scalars({"held_out/reward": evaluation.total.mean().item()}, self.state.step)

    def _measure(self, reward: RewardMix) -> Evaluation:
        seeds = self.settings.evaluation_seeds
        return evaluate(self.policy, self.decoder, reward, self._judge, self._evaluated, seeds, self.config.rollout)

    def _resume(self, name: str) -> tuple[RunFolder, list[dict[str, Any]]]:
        """Restore the state from the run `name`; its folder and the records of the steps that are done."""
        folder = RunFolder.existing(folders.runs(), name)
        checkpoint = load_checkpoint(folder.checkpoint)
        versions = ("pack", "comfyui")
        saved, now = ({k: v for k, v in r.items() if k not in versions} for r in (checkpoint.recipe, self.recipe()))
        saved["config"] = TrainConfig.from_dict(saved["config"]).to_dict()  # settings that its version did not have take their defaults
        check_recipe(saved, now)
        if self.settings.iterations is not None and checkpoint.step >= self.settings.iterations:
            raise ConfigError(
                f"iterations: {name!r} has done {checkpoint.step} of {self.settings.iterations} already: raise iterations, or set resume to none"
            )
        self.state.restore(checkpoint)
        return folder, folder.rewind(checkpoint.step)

    def _figures(self) -> dict[str, Any]:
        compared = summarise(self.evaluations[0], self.evaluations[self.state.step]) if self.evaluations else {}
        return compared | {
            "steps": self.state.step,
            "train_seconds": time.perf_counter() - self._started,
            "training_reward": [self.history[0]["reward_mean"], self.history[-1]["reward_mean"]],
            "zero_spread_groups": sum(r["zero_spread_groups"] for r in self.history),
            "groups": sum(r["groups"] for r in self.history),
            "skipped_steps": sum(r["skipped"] for r in self.history),
            "held_out_prompts": len(self._prompts.held_out),
            "run_folder": str(self.folder.path),
            "lora": str(folders.lora_of_run(self.folder.name)),
            **{name: str(self.folder.path / f"{name}.png") for name in (("curve", "grid") if self.evaluations else ("curve",))},
        }


def run_training(
    policy: PolicySettings,
    rollout: RolloutSettings,
    prompts: PromptSet,
    reward: Reward | RewardMix,
    judge: Reward | None,
    config: TrainConfig,
    settings: RunSettings,
    node_id: str | None,
) -> RunResult:
    """Train a LoRA on a clone of the policy's model; the model itself generates as before afterwards.

    Raises ConfigError for input that can not work, before anything is written; the host's interruption after Cancel, when
    checkpoint and LoRA are kept.
    """
    run = Run(policy, rollout, prompts, reward, judge, config, settings)
    assert run.reward is not None
    try:
        with run.active():
            for metrics in train(run.policy, run.decoder, run.reward, run.conds, config, run.state):
                run.after_step(metrics, node_id)
        return run.finish()
    except BaseException as error:
        run.stop("cancelled" if isinstance(error, InterruptProcessingException) else f"stopped ({type(error).__name__})")
        raise


def summary_text(figures: Mapping[str, Any]) -> str:
    """The figures of summary.json for a person, as a Markdown list."""
    lines = [f"{figures['steps']} steps in {figures['train_seconds']:.0f} s"]
    if "reward_before" in figures:
        lines += _gain_lines(figures)
    else:
        first, last = figures["training_reward"]
        lines.append(f"reward of the training images: {_number(first)} in the first step, {_number(last)} in the last (their prompts differ)")
    if figures["zero_spread_groups"]:
        lines.append(f"{figures['zero_spread_groups']} of {figures['groups']} groups had no spread and taught nothing")
    if figures["skipped_steps"]:
        lines.append(f"{figures['skipped_steps']} steps were skipped: loss or gradient not finite")
    return "\n".join(f"- {line}" for line in [*lines, f"run folder: {figures['run_folder']}", f"LoRA: {figures['lora']}"])


def _gain_lines(figures: Mapping[str, Any]) -> list[str]:
    gain = figures["reward_after"] - figures["reward_before"]
    error = figures["reward_se"]
    where = f"{figures['held_out_prompts']} held-out prompts" if figures["held_out_prompts"] else "the training prompts (none are held out)"
    lines = [
        f"reward on {where}, {figures['held_out_images']} images: {figures['reward_before']:.4f} -> {figures['reward_after']:.4f} (gain "
        f"{gain:+.4f} +- {error:.4f})",
    ]
    if len(figures["rewards"]) > 1:
        lines += [f"{name} alone: {r['before']:.4f} -> {r['after']:.4f} (+- {r['se']:.4f})" for name, r in figures["rewards"].items()]
    if figures["judge_before"] is not None:
        lines.append(f"judge, never trained on: {figures['judge_before']:.4f} -> {figures['judge_after']:.4f}")
    if gain <= 2 * error:
        lines.append("The gain is within the noise: train longer, raise learning_rate, or use a reward that grades these images more finely.")
    return lines


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"
