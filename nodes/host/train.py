"""Training runs on the host's objects: from MODEL, CLIP and VAE to a LoRA that is applied to the MODEL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from comfy.model_management import InterruptProcessingException
from comfy.model_patcher import ModelPatcher
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor

from ...pave_core.memory.report import Preflight
from ...pave_core.policies.lora_file import LoraWeights
from ...pave_core.runs import begin as core
from ...pave_core.runs.run import Run
from ...pave_core.runs.settings import Task
from ...pave_core.training.steering import Steering
from . import folders, interrupt, shutdown
from .memory import free_caches
from .panel.kept import KeptWorkflow
from .panel.live import LiveRun
from .panel.progress import NodeProgress
from .policy.conditioning import NativeCond
from .policy.make import AnySettings, made
from .policy.native import NativePolicy
from .policy.settings import PolicySettings, RolloutSettings
from .preflight import preflight
from .result import with_lora


@dataclass(frozen=True)
class RunResult:
    """The outputs of a training node."""

    model: ModelPatcher | None  # with the LoRA applied; None where the policy has no MODEL
    lora: LoraWeights
    loss_map: dict[str, list[float]]  # for the host's Plot Loss Graph: minus the reward of each step
    curve: Tensor  # (1, H, W, 3)
    grid: Tensor | None  # (1, H, W, 3); None where nothing was measured
    summary: str

    @property
    def model_output(self) -> Any:
        """The value of the output model: what follows it is told where a run without MODEL has none."""
        if self.model is not None:
            return self.model
        return ExecutionBlocker(
            "model: a pipeline was trained, and no MODEL of the same weights is connected to Pave Diffusers Policy: "
            "connect one, or load the LoRA by Load LoRA"
        )


def begin(settings: AnySettings, rollout: RolloutSettings, task: Task, progress: NodeProgress) -> Run:
    """Begin a run of `task` on a clone of the policy's model; the model itself generates as before afterwards.

    ConfigError for inputs that cannot work, before anything is written. What a pipeline will need is not predicted.
    """
    steering = Steering(interrupt.check)
    policy, decoder = made(
        settings, rollout.picture, seed=task.config.run.seed, memory=task.config.memory, check=steering.check
    )
    before: Callable[[NativeCond], Preflight] | None = None
    if isinstance(policy, NativePolicy) and isinstance(settings, PolicySettings):
        parts = {"settings": settings, "rollout": rollout, "config": task.config, "reward": task.reward}
        before = partial(preflight, policy, **parts)
    return core.begin(
        policy,
        decoder,
        task=task,
        places=folders.places(),
        reporters=[progress, LiveRun(steering, progress), KeptWorkflow()],
        free=free_caches,
        preflight=before,
        steering=steering,
    )


def run_training(policy: AnySettings, rollout: RolloutSettings, task: Task, node_id: str | None) -> RunResult:
    """Train to the end, or until the guard ends the run. node_id: the node that shows the progress.

    After Cancel, checkpoint and LoRA are kept and the host's interruption is raised.
    """
    with shutdown.waited_for():
        run = begin(policy, rollout, task, NodeProgress(node_id))
        try:
            with run.policy:
                for metrics in run.steps():
                    run.after_step(metrics)
                    if run.stopped:
                        break
            result = finish(run, policy.model)
        except BaseException as error:
            run.stop(
                "cancelled" if isinstance(error, InterruptProcessingException) else f"stopped ({type(error).__name__})"
            )
            raise
        run.close()
        return result


def finish(run: Run, model: ModelPatcher | None) -> RunResult:
    """End `run`, and apply its LoRA to a clone of `model`, if there is one.

    Call it outside the policy's `with` block: only there the model's layers have the names that the host knows.
    """
    outcome = run.finish()
    trained = None if model is None else with_lora(model, outcome.lora)
    # The loss of GRPO is about 0 whatever happens (its gradient is not): minus the reward is what should fall.
    loss_map = {"loss": [-r["reward_mean"] for r in outcome.history if r["reward_mean"] is not None]}
    grid = None if outcome.grid is None else outcome.grid.unsqueeze(0)
    return RunResult(trained, outcome.lora, loss_map, outcome.curve.unsqueeze(0), grid, outcome.summary.text())
