"""The beginning and the end of a training graph, as nodes."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...pave_core.files import safe_name
from ...pave_core.runs.settings import Task
from ...pave_core.scoring.mix import RewardMix
from ..host.graphs import checks, queue
from ..host.graphs.settings import check_drawn
from ..host.policy.settings import RolloutSettings
from ..host.steps import actions, cache
from ..shared import schema
from ..shared.training import (
    GUARD,
    JUDGE,
    MEASURE,
    MEMORY,
    PROMPTS,
    STATE,
    STORAGE,
    SUMMARY,
    composed_config,
    optional_settings,
    result_outputs,
    run_settings,
)
from ..shared.widgets import widgets


class PaveBegin(io.ComfyNode):
    """The state that a training graph begins with."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveBegin",
            "Pave Begin",
            "Begins a training run that you build yourself from nodes: gives the state that Pave Rollout, Pave "
            "Decomposition Loss and Pave Optimizer Step pass on, in a loop, until Pave Finish. Queueing the graph "
            "again trains again, from the start.",
            terms=["training loop", "grpo", "start training"],
            category=schema.STEPS,
            inputs=[
                schema.Policy.Input("policy", tooltip="The model to tune, from Pave Policy."),
                PROMPTS,
                *optional_settings(),
                schema.Reward.Input(
                    "reward",
                    optional=True,
                    tooltip="Measured on the held-out prompts before and after, for the curve; judge and evaluations "
                    "need it. The run trains on the scores in the loop, not on this.",
                ),
                JUDGE,
                GUARD,
                *widgets("prompts_per_step", "seed", *STORAGE, "checkpoint_every", *MEASURE),
                MEMORY,
            ],
            outputs=[schema.State.Output(display_name="state", tooltip=STATE)],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, run_name: str | None = None) -> bool | str:
        named = True if run_name is None else schema.checked(lambda: safe_name("run_name", run_name))
        return queue.validated(check_drawn) if named is True else named

    @classmethod
    def fingerprint_inputs(cls, **inputs) -> int:
        return cache.fingerprint()

    @classmethod
    def execute(
        cls,
        policy,
        prompts,
        rollout=None,
        objective=None,
        optimizer=None,
        reward=None,
        judge=None,
        guard=None,
        memory=None,
        **values: Any,
    ) -> io.NodeOutput:
        rollout = rollout or RolloutSettings()
        first = values | {"iterations": 1}  # Pave Loop Begin will announce how many there are
        config = composed_config(
            policy.lora, rollout, objective=objective, optimizer=optimizer, memory=memory, values=first
        )
        mix = None if reward is None else RewardMix.of(reward)
        task = Task(config, run_settings(values, guard, None), prompts, mix, judge)
        return io.NodeOutput(actions.begin(policy, rollout, task, cls.hidden.unique_id))


class PaveFinish(io.ComfyNode):
    """The results of a training graph."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveFinish",
            "Pave Finish",
            "Ends a training run: measures it, saves its LoRA, and gives the tuned model for a KSampler. Changing "
            "nodes after it does not train again.",
            terms=["end training", "trained model", "lora"],
            category=schema.STEPS,
            is_output_node=True,
            inputs=[schema.State.Input("state", tooltip="The state after the last step, from Pave Loop End.")],
            outputs=[*result_outputs(), SUMMARY],
        )

    @classmethod
    def validate_inputs(cls, state=None) -> bool | str:
        return queue.validated(checks.check_steps)

    @classmethod
    def execute(cls, state) -> io.NodeOutput:
        result = actions.finish(state)
        return io.NodeOutput(result.model_output, result.lora, result.loss_map, result.curve, result.summary)


NODES = [PaveBegin, PaveFinish]
