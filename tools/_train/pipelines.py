"""Folders of diffusers pipelines, without a host."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from _cuda.host import pack_module

from .models import Files, Parts
from .recipe import Recipe, only

errors = pack_module("pave_core.errors")
ConfigError, quoted = errors.ConfigError, errors.quoted
of = pack_module("pave_core.policies.diffusers.policy")
folders = pack_module("pave_core.policies.diffusers.folder")
tiny = pack_module("pave_core.policies.diffusers.tiny")
compute = pack_module("pave_core.rewards.networks.compute")
check_sigmas = pack_module("pave_core.flow.schedule").check_sigmas


def make(recipe: Recipe, files: Files, *, folder: Path | None, cpu: bool, check: Callable[[], None]) -> Parts:
    """As of models.make."""
    config = recipe.config
    only("sampling", recipe.sampling, (*(each.name for each in fields(of.Sampling)), "scheduler", "sigmas"))
    sampling, schedule = of.Sampling.of_recipe(recipe.sampling)
    if schedule is not None:
        check_sigmas(schedule, config.rollout.steps)
    pipeline, device = _loaded(recipe, files, folder), _device(cpu)
    policy = of.PipelinePolicy(
        pipeline,
        config.lora,
        sampling,
        device=device,
        seed=config.run.seed,
        memory=config.memory,
        schedule=schedule,
        check=check,
    )

    @contextmanager
    def visiting(module: nn.Module) -> Iterator[torch.device]:
        check()
        with compute.on(device)(module):
            yield device

    free = partial(_free, device)
    computed = partial(compute.Compute, visiting, free=free)
    return Parts(policy, of.PipelineDecoder(policy), computed, free, check)


def _loaded(recipe: Recipe, files: Files, folder: Path | None) -> Any:
    """The pipeline of a recipe, or of a folder instead."""
    only("files", recipe.files, ("diffusers", "precision"))
    name, precision = recipe.files.get("diffusers"), recipe.files.get("precision", "bf16")
    if precision not in tuple(folders.DTYPES):
        known = ", ".join(folders.DTYPES)
        raise ConfigError(f"files.precision: {quoted(precision)} is not known: choose one of {known}")
    if folder is None and name == tiny.TINY_PIPELINE:
        return tiny.tiny_pipeline()
    if folder is None:
        if not isinstance(name, str):
            raise ConfigError(
                f"files.diffusers: {quoted(name)} is no name of a folder: write one of models/diffusers there, or give "
                "a folder by --model"
            )
        folder = files.pipeline(name)
    return folders.load(folder, folders.DTYPES[precision])


def _device(cpu: bool) -> torch.device:
    from accelerate import PartialState  # the one that several processes have joined by, where there are several

    device: Any = PartialState(cpu=cpu).device
    return device


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type != "cpu":
        getattr(torch, device.type).empty_cache()
