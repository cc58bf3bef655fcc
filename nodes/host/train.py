"""One training run on the host's objects: from MODEL, CLIP and VAE to a LoRA, its pictures and its folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
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
from ...pave_core.config.train import TrainConfig
from ...pave_core.errors import ConfigError
from ...pave_core.evaluation.evaluate import mean
from ...pave_core.evaluation.guard import GuardSettings, Reading
from ...pave_core.evaluation.reward_check import check_reward
from ...pave_core.pictures.curve import reward_curve
from ...pave_core.pictures.sheets import before_after_grid
from ...pave_core.rollout.prompts import PromptSet
from ...pave_core.runs.checkpoint import Checkpoint, check_recipe, load_checkpoint, save_checkpoint
from ...pave_core.runs.folder import RunFolder
from ...pave_core.runs.measurements import HeldOut
from ...pave_core.runs.recipe import LoraWeights, save_lora
from ...pave_core.runs.report import summary_text
from ...pave_core.runs.watch import Watch
from ...pave_core.scoring.score import RewardMix, describe
from ...pave_core.training.loop import TrainState, train
from ...pave_core.types import Reward, StepMetrics
from . import folders
from .panel.progress import Progress
from .policy.native import NativeDecoder, NativePolicy, PolicySettings, RolloutSettings, SamplingSettings

logger = logging.getLogger("pave")

SCORED_BY_NODES = "scored by nodes of the graph"


@dataclass(frozen=True)
class RunSettings:
    """Where a run is kept, what it is measured on, and what watches it."""

    name: str
    resume: str | None
    evaluation_seeds: tuple[int, ...]
    evaluate_every: int  # 0: only before and after
    iterations: int | None = None  # the whole run's, to refuse resuming one that is done; None where a graph says how many steps are made
    check_reward: bool = True  # whether the reward can tell images apart, before the first step
    guard: GuardSettings | None = None


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
        for name, other in (("judge", judge), ("guard", settings.guard)):
            if other is not None and reward is None:
                raise ConfigError(f"{name}: it is measured together with the reward: connect a reward as well, or leave the {name} open")
        self._started = time.perf_counter()
        self.config = config
        self.settings = settings
        self.reward = None if reward is None else RewardMix.of(reward)
        self.held_out: HeldOut | None = None
        self.decoder = NativeDecoder(policy.model, policy.vae)
        self._source, self._prompts, self._judge = policy, prompts, judge
        self._sampling = SamplingSettings.of(policy, rollout)
        self._progress = Progress()
        self._kept = -1  # the step that the files on disk are of
        self.policy = NativePolicy(policy.model, policy.clip, policy.vae, self._sampling, config.lora, config.run.seed)
        with self.active():
            self._base = self.policy.fingerprint()
            self.state = TrainState.begin(self.policy, config)
            fresh = self.state.capture({})
            resumed = None if settings.resume is None else self._resume(settings.resume)
            self.policy.sigmas(config.rollout.steps)  # a schedule that can not work is refused here
            conds = {prompt: self.policy.encode(prompt) for prompt in (*prompts.train, *prompts.held_out)}
            self.conds = {prompt: conds[prompt] for prompt in prompts.train}
            if self.reward is not None:
                if settings.check_reward and resumed is None:
                    self._check(self.reward)
                evaluated = {prompt: conds[prompt] for prompt in prompts.evaluated}
                measure = (settings.guard, evaluated, settings.evaluation_seeds, config.rollout, fresh)
                self.held_out = HeldOut(self.policy, self.decoder, self.reward, judge, *measure)
        self.folder, self.history = resumed or (RunFolder.new(folders.runs(), settings.name), [])
        if resumed is not None and self.held_out is not None and self.held_out.watch is not None:
            self.held_out.watch.resume(self.folder.rewind_readings(self.state.step), self.folder.load_best(self.state.step))
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
            "guard": self.settings.guard.to_dict() if self.settings.guard is not None else None,
            "prompts": list(self._prompts.train),
            "held_out": list(self._prompts.held_out),
        }

    @property
    def chosen_step(self) -> int:
        """The step whose weights are the run's: the guard's best, else the newest."""
        chosen = self._chosen()
        return self.state.step if chosen is None else chosen.step

    @property
    def watch(self) -> Watch | None:
        """The guard at work."""
        return None if self.held_out is None else self.held_out.watch

    @property
    def stopped(self) -> str | None:
        """Why the guard has ended the run."""
        return None if self.watch is None else self.watch.stopped

    def steps_to_check(self) -> int | None:
        """How many steps the run may make before the guard looks at it again; None without a guard."""
        return None if self.watch is None else self.watch.steps_to_check(self.state.step)

    def _chosen(self) -> Checkpoint | None:
        return None if self.held_out is None else self.held_out.chosen

    def lora(self) -> LoraWeights:
        """The LoRA so far: of chosen_step."""
        chosen = self._chosen()
        return LoraWeights(self.policy.export(None if chosen is None else chosen.adapter), self.recipe() | {"step": self.chosen_step})

    def keep(self) -> Path:
        """Write the checkpoint and the LoRA so far; the LoRA's path."""
        path = folders.lora_of_run(self.folder.name)
        if self._kept != self.state.step:
            save_checkpoint(self.folder.checkpoint, self.state.capture(self.recipe()))
            save_lora(path, self.lora())
            self._kept = self.state.step
        if self.held_out is not None:  # measurements may have been made since
            self.folder.save_evaluations(self.held_out.evaluations)
        return path

    def after_step(self, metrics: StepMetrics, node_id: str | None) -> None:
        """Log, report, save and measure, each when it is due. Inside active()."""
        self.history.append(self.folder.log(metrics))
        self._progress.step(metrics, self.config.run.iterations, node_id)
        every, held_out = self.settings.evaluate_every, self.held_out
        guarded = held_out is not None and held_out.guard_is_due(metrics.step)
        if held_out is not None and (guarded or (every and metrics.step % every == 0)):
            self._evaluate(held_out)
        if held_out is not None and guarded:
            self._record(held_out.guard(self.state))
        if guarded or metrics.step % self.config.run.checkpoint_every == 0 or metrics.step >= self.config.run.iterations:
            self.keep()

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
        held_out = self.held_out
        with self.active():
            if held_out is not None:
                self._evaluate(held_out)
                self._record(held_out.finish(self.state))
            self.keep()
            lora = self.lora()
        self.folder.close()
        trained, _ = comfy.sd.load_lora_for_models(self._source.model, None, lora, 1.0, 0.0)
        assert trained is not None  # it is None only where no model is given
        guarded = self.chosen_step if self.watch is not None else None
        curve = reward_curve(self.history, held_out.evaluations if held_out else {}, held_out.readings if held_out else (), guarded)
        self.folder.save_picture("curve", curve)
        grid = None
        if held_out is not None:
            grid = before_after_grid(held_out.evaluations[0], held_out.evaluations[self.chosen_step])
            self.folder.save_picture("grid", grid)
            grid = grid.unsqueeze(0)
        figures = self._figures()
        self.folder.save_summary(figures)
        # The loss of GRPO is about 0 whatever happens (its gradient is not): minus the reward is what a falling curve should show.
        loss_map = {"loss": [-r["reward_mean"] for r in self.history if r["reward_mean"] is not None]}
        return RunResult(trained, lora, loss_map, curve.unsqueeze(0), grid, summary_text(figures))

    def _evaluate(self, held_out: HeldOut) -> None:
        """Measure the policy as it is, once a step, and log it."""
        step = self.state.step
        if step not in held_out.evaluations:
            self.folder.log_scalars({"held_out/reward": mean(held_out.evaluate(step).total)}, step)

    def _record(self, reading: Reading | None) -> None:
        """Write down what the guard has measured; None: nothing new."""
        if reading is None or self.watch is None:
            return
        self._kept = -1  # the state may have been sent back, and another step may have been chosen
        self.folder.log_reading(reading)
        if reading.best:
            save_checkpoint(self.folder.best, self.watch.best)
        for alarm in reading.alarms:
            then = "the run ends here" if self.stopped else f"back to step {self.watch.best.step} with half the learning rate"
            logger.warning(f"Pave-GRPO guard, step {reading.step}: {alarm}; {then}")

    def _check(self, reward: RewardMix) -> None:
        """ConfigError where the reward can not tell the images of the untrained policy apart."""
        check = check_reward(self.policy, self.decoder, reward, self.conds, self.config)
        logger.info(f"Pave-GRPO reward check\n{check.text()}")
        if check.problem:
            raise ConfigError(
                f"reward: it can not tell your images apart: {check.problem}; look at them with Pave Check Reward, or switch check_reward off"
            )

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
        compared = {"guard": None} if self.held_out is None else self.held_out.figures(self.chosen_step)
        names = dict.fromkeys(name for record in self.history for name in record.get("flat_groups", ()))
        return compared | {
            "steps": self.state.step,
            "train_seconds": time.perf_counter() - self._started,
            "training_reward": [self.history[0]["reward_mean"], self.history[-1]["reward_mean"]],
            "zero_spread_groups": sum(r["zero_spread_groups"] for r in self.history),
            "groups": sum(r["groups"] for r in self.history),
            "flat_groups": {name: sum(r.get("flat_groups", {}).get(name, 0) for r in self.history) for name in names},
            "unscored_images": sum(r.get("unscored", 0) for r in self.history),
            "skipped_steps": sum(r["skipped"] for r in self.history),
            "held_out_prompts": len(self._prompts.held_out),
            "run_folder": str(self.folder.path),
            "lora": str(folders.lora_of_run(self.folder.name)),
            **{name: str(self.folder.path / f"{name}.png") for name in (("curve", "grid") if self.held_out else ("curve",))},
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
                if run.stopped:
                    break
        return run.finish()
    except BaseException as error:
        run.stop("cancelled" if isinstance(error, InterruptProcessingException) else f"stopped ({type(error).__name__})")
        raise
