"""The processes of a run, as accelerate launch, torchrun, SLURM or MPI have started them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from _cuda.host import pack_module

ConfigError = pack_module("pave_core.errors").ConfigError
processes = pack_module("pave_core.training.processes")


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """The number of this process among those of the run."""
    return int(environment.get("RANK") or environment.get("OMPI_COMM_WORLD_RANK") or environment.get("PMI_RANK") or 0)


def world(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes the run has. ConfigError where a launcher has started one and means several."""
    sizes = (environment.get(name) for name in ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"))
    size = next((int(size) for size in sizes if size), None)
    if size is None and "MASTER_ADDR" in environment:
        raise ConfigError(
            "processes: the launcher names a MASTER_ADDR and has started one process without a RANK, as accelerate "
            "launch does with --cpu: add --processes N after the recipe, or start it with torchrun"
        )
    return size or 1


def check_device(place: int, *, cpu: bool, gpus: int, nccl: bool) -> None:
    """ConfigError where a process has no device: place: its number on this machine; gpus: how many there are."""
    if cpu:
        return
    if place >= gpus:
        raise ConfigError(
            f"processes: process {place} of this machine has no GPU, it has {gpus}: start at most {gpus or 1} here, or "
            "give --cpu"
        )
    if not nccl:
        raise ConfigError(
            "processes: this PyTorch has no NCCL, by which GPUs exchange gradients: install one that has it (Linux, "
            "CUDA), start one process, or give --cpu"
        )


@contextmanager
def joined(recipe: Any, *, cpu: bool, check: Callable[[], None]) -> Iterator[Any]:
    """The Processes of a run of `recipe`, joined. check: as of Several. ConfigError where they cannot work."""
    count = world()
    recipe.sharding.grid(count, recipe.config)
    if count == 1:
        yield processes.ALONE
        return
    import torch
    from accelerate import PartialState
    from torch import distributed

    place = int(os.environ.get("LOCAL_RANK", rank()))
    check_device(place, cpu=cpu, gpus=torch.cuda.device_count(), nccl=distributed.is_nccl_available())
    later = timedelta(seconds=recipe.sharding.timeout) + processes.LATER
    state = PartialState(cpu=cpu, timeout=later)
    yield processes.Several(recipe.sharding, recipe.config, device=state.device, check=check)
    distributed.destroy_process_group()  # not after an error: it would wait for those that are gone
