"""The workflows that come with the pack, by name."""

from __future__ import annotations

from collections.abc import Callable

from .graph import Workflow
from .loops import custom_reward_graph, step_by_step_loop, train_look_train
from .real_models import REAL_MODELS
from .results import compare_before_after, generate_with_lora, train_then_generate
from .training import (
    diffusers_pipeline,
    multi_reward_guarded,
    quickstart,
    quickstart_taste,
    resume_training,
    train_advanced,
    you_are_the_reward,
)

RUNNABLE: dict[str, Callable[[], Workflow]] = {
    make.__name__: make
    for make in (
        quickstart,
        quickstart_taste,
        you_are_the_reward,
        train_advanced,
        step_by_step_loop,
        train_look_train,
        custom_reward_graph,
        train_then_generate,
        generate_with_lora,
        resume_training,
        compare_before_after,
        multi_reward_guarded,
        diffusers_pipeline,
    )
}
"""The workflows that run on the bundled model."""

WORKFLOWS: dict[str, Callable[[], Workflow]] = {**RUNNABLE, **REAL_MODELS}
