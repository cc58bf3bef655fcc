"""Several processes that train one adapter: who samples which images of a step, and what they tell each other.

A step has P prompts with groups of G images. W processes are a grid of W_p x W_b:

    prompts     W_p = W, W_b = 1     each process has P / W prompts
    branches    W_p = 1, W_b = W     each process has G / W images of every group
    both        W_p the largest that divides P and W with W / W_p = W_b dividing G

Process r = r_p W_b + r_b has the prompts r_p P / W_p, ... and, of their groups, the images r_b G / W_b, ...: in the
order of ranks, the shares of all make the whole. Noise is a function of (seed, step, the prompt's place): each process
makes its own share of what one process would have made.

    scores      each process scores its images; all gather all scores, so that advantages are those of whole groups
    branches    the processes with the same prompts gather each other's y_i, and share out the observed steps x_k: the
                update needs the network at x_k once, whatever G is, so that sharing out images would repeat it
    gradient    dL = sum_r dL_r, one sum over one vector: the adapter's gradient, the loss, and whether there is one

The state of all processes is then the same: only what is written, by process 0 alone, differs.

A process that dies, or does not answer for `timeout` seconds, is a TrainingError in all others, whose state is that of
the last complete step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from math import gcd
from typing import Any, Literal, Protocol, TypeVar, get_args

import torch
from torch import Tensor, distributed, nn

from ..config.fields import check, setting
from ..config.train import TrainConfig
from ..errors import ConfigError, TrainingError, in_words
from ..types import Rollout

T = TypeVar("T")
Shard = Literal["prompts", "branches", "both"]
POLL = 0.0005
"""Seconds between two looks at whether the others have answered."""
LATER = timedelta(seconds=60)
"""By how much later than a wait the library's own time-out is, which may end the process."""


@dataclass(frozen=True)
class Sharding:
    """How several processes share out a step."""

    shard: Shard = setting(
        "prompts",
        "What the processes share out: the prompts of a step, the images of each, or both.",
        options=get_args(Shard),
    )
    timeout: float = setting(
        1800.0,
        "Seconds after which a process that does not answer ends the run. Longer than a step may take.",
        low=1.0,
        high=86_400.0,
        remedy="give more seconds than a step takes",
    )

    def __post_init__(self) -> None:
        check(self)

    def grid(self, world: int, config: TrainConfig) -> tuple[int, int]:
        """(W_p, W_b) of `world` processes. ConfigError where they do not divide the work, with the numbers that do."""
        P, G = config.run.prompts_per_step, config.rollout.group_size
        found = self._grid(world, P, G)
        if found is None:
            work = {"prompts": f"prompts_per_step {P}", "branches": f"group_size {G}"}
            shared = work.get(self.shard, " and ".join(work.values()))
            most = P * G if self.shard == "both" else max(P, G)
            good = ", ".join(str(n) for n in range(1, most + 1) if self._grid(n, P, G) is not None)
            raise ConfigError(
                f"processes: {world} do not divide {shared}, which shard {self.shard!r} shares out: start {good} "
                "processes, or change shard"
            )
        if world > 1 and config.optim.step == "per_step":
            raise ConfigError(
                f"optimizer_step: per_step goes through the branch steps one after another, which {world} processes "
                "cannot share: set it to accumulated"
            )
        if found[1] > 1 and config.rollout.contrast:
            raise ConfigError(
                f"contrast: {config.rollout.contrast} images of a group may lie in one process, so that shard "
                f"{self.shard!r} cannot share them out: set shard to prompts, or contrast to 0"
            )
        return found

    def _grid(self, world: int, P: int, G: int) -> tuple[int, int] | None:
        choices = {"prompts": [world], "branches": [1]}.get(self.shard, range(gcd(world, P), 0, -1))
        for W_p in choices:
            if world % W_p == 0 and P % W_p == 0 and G % (world // W_p) == 0:
                return W_p, world // W_p
        return None


class Processes(Protocol):
    """The processes of a run, as one of them sees them. P, G, M, F as in Rollout; P_own, G_own: its share."""

    leads: bool
    """Whether this one writes files and speaks to people."""
    several: bool
    """Whether there are others."""

    def prompts(self, values: Sequence[T]) -> Sequence[T]:
        """This process's share of P things, one for each prompt."""
        ...

    def images(self, G: int) -> slice:
        """Which of the G images of a group this process samples."""
        ...

    def scores(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """{reward: (P_own, M F, G_own)} -> {reward: (P, M F, G)}."""
        ...

    def anchors(self, values: Tensor) -> Tensor:
        """(P_own,) -> (P,)."""
        ...

    def whole(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        """Rollouts with G_own images in a group -> with all G."""
        ...

    def shared(self, observed: Sequence[T]) -> Sequence[T]:
        """This process's share of the observed steps of its prompts."""
        ...

    def summed(self, parameters: Sequence[nn.Parameter], losses: list[Tensor]) -> list[Tensor]:
        """Make the gradient of the parameters that of all processes; the losses of all, or none where none has any."""
        ...

    def rows(self, values: Mapping[int, Tensor], chains: Sequence[int]) -> Mapping[int, Tensor]:
        """{chain: (n_own, 5)} -> {chain: (n, 5)}; {} where there are none at all."""
        ...

    def all(self, true: bool) -> bool:
        """Whether it is true in all processes."""
        ...

    def first(self, values: Tensor) -> Tensor:
        """The values that process 0 has."""
        ...

    def told(self, text: Callable[[], bytes]) -> bytes:
        """What `text` gives in process 0, where alone it is called."""
        ...

    def share(self, count: int) -> slice | None:
        """This process's share of `count` things, in order; None where there are fewer than processes."""
        ...

    def gathered(self, values: Tensor) -> Tensor:
        """(n_own, ...) -> (n, ...), in the order of the processes."""
        ...


class Alone(Processes):
    """One process: everything is its own, and stays what it is."""

    leads = True
    several = False

    def prompts(self, values: Sequence[T]) -> Sequence[T]:
        return values

    def images(self, G: int) -> slice:
        return slice(None)

    def scores(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return values

    def anchors(self, values: Tensor) -> Tensor:
        return values

    def whole(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        return rollouts

    def shared(self, observed: Sequence[T]) -> Sequence[T]:
        return observed

    def summed(self, parameters: Sequence[nn.Parameter], losses: list[Tensor]) -> list[Tensor]:
        return losses

    def rows(self, values: Mapping[int, Tensor], chains: Sequence[int]) -> Mapping[int, Tensor]:
        return values

    def all(self, true: bool) -> bool:
        return true

    def first(self, values: Tensor) -> Tensor:
        return values

    def told(self, text: Callable[[], bytes]) -> bytes:
        return text()

    def share(self, count: int) -> slice | None:
        return None

    def gathered(self, values: Tensor) -> Tensor:
        return values


ALONE = Alone()


class Several(Processes):
    """One of several processes, after torch.distributed.init_process_group.

    sharding, config: of the run. device: where tensors are exchanged, which the backend must know. check: called while
    this process waits for others; what it raises (somebody asks the run to stop) ends the wait. ConfigError where the
    processes do not divide the work.
    """

    def __init__(
        self,
        sharding: Sharding,
        config: TrainConfig,
        *,
        device: torch.device,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.rank, self.world = distributed.get_rank(), distributed.get_world_size()
        self.leads = self.rank == 0
        self._prompts, self._images = sharding.grid(self.world, config)
        self._place, self._image = divmod(self.rank, self._images)
        self._device, self._check, self._timeout = device, check, sharding.timeout
        of_prompts = [[p * self._images + b for b in range(self._images)] for p in range(self._prompts)]
        later = timedelta(seconds=sharding.timeout) + LATER
        groups = [distributed.new_group(ranks, timeout=later) for ranks in of_prompts]  # made by all, as it must be
        self._peers = groups[self._place]

    several = True

    def prompts(self, values: Sequence[T]) -> Sequence[T]:
        own = len(values) // self._prompts
        return values[self._place * own : (self._place + 1) * own]

    def images(self, G: int) -> slice:
        own = G // self._images
        return slice(self._image * own, (self._image + 1) * own)

    def scores(self, values: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        own = torch.stack(list(values.values()))  # (R, P_own, M F, G_own)
        whole = torch.stack(self._gather(own)).unflatten(0, (self._prompts, self._images))
        whole = whole.permute(2, 0, 3, 4, 1, 5).flatten(4, 5).flatten(1, 2)  # (R, P, M F, G)
        return dict(zip(values, whole, strict=True))

    def anchors(self, values: Tensor) -> Tensor:
        return torch.cat(self._gather(values)[:: self._images])  # those with the same prompts have the same

    def whole(self, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        if self._images == 1:
            return rollouts
        branches = self._of_peers(torch.stack([rollout.branches for rollout in rollouts]))
        starts = torch.stack([rollout.starts for rollout in rollouts])
        if starts.shape[2] > 1:  # trajectories have states of their own
            starts = self._of_peers(starts)
        return [replace(each, starts=x, branches=y) for each, x, y in zip(rollouts, starts, branches, strict=True)]

    def _of_peers(self, values: Tensor) -> Tensor:
        """(P_own, K, G_own, *S) -> (P_own, K, G, *S)."""
        return torch.cat(self._gather(values, self._peers), 2)

    def shared(self, observed: Sequence[T]) -> Sequence[T]:
        return observed[self._image :: self._images]

    def summed(self, parameters: Sequence[nn.Parameter], losses: list[Tensor]) -> list[Tensor]:
        loss = [torch.stack(losses).sum(), losses[0].new_ones(())] if losses else parameters[0].new_zeros(2)
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(gradient.detach().float().flatten() for gradient in own), torch.stack(list(loss)).float()])
        exchanged = flat.to(self._device)
        self._wait(distributed.all_reduce(exchanged, async_op=True))
        flat.copy_(exchanged)
        *gradients, total, count = flat.split([*(p.numel() for p in parameters), 1, 1])
        if not count.item():
            return []
        for p, gradient in zip(parameters, gradients, strict=True):
            p.grad = gradient.view_as(p).to(p.dtype)
        return [total.squeeze(0)]

    def rows(self, values: Mapping[int, Tensor], chains: Sequence[int]) -> Mapping[int, Tensor]:
        own = torch.stack([values[n] for n in chains], 1) if values else torch.empty(0, len(chains), 5)
        whole = self.gathered(own.cpu())
        return {n: whole[:, c] for c, n in enumerate(chains)} if len(whole) else {}

    def all(self, true: bool) -> bool:
        return all(bool(each) for each in self._gather(torch.tensor([float(true)])))

    def first(self, values: Tensor) -> Tensor:
        exchanged = values.to(self._device)
        self._wait(distributed.broadcast(exchanged, 0, async_op=True))
        return exchanged.to(values.device)

    def told(self, text: Callable[[], bytes]) -> bytes:
        said = text() if self.leads else b""
        length = int(self.first(torch.tensor([len(said)])))
        if not length:
            return b""
        content = (
            torch.frombuffer(bytearray(said), dtype=torch.uint8)
            if self.leads
            else torch.empty(length, dtype=torch.uint8)
        )
        return self.first(content).numpy().tobytes()

    def share(self, count: int) -> slice | None:
        if count < self.world:
            return None
        borders = [count * r // self.world for r in range(self.world + 1)]
        return slice(borders[self.rank], borders[self.rank + 1])

    def gathered(self, values: Tensor) -> Tensor:
        sizes = [int(size) for size in self._gather(torch.tensor([len(values)]))]
        padded = values.new_zeros(max(sizes), *values.shape[1:])
        padded[: len(values)] = values
        return torch.cat([part[:size] for part, size in zip(self._gather(padded), sizes, strict=True)])

    def _gather(self, values: Tensor, group: Any = None) -> list[Tensor]:
        """The values (...) of each process of the group, all of one shape."""
        exchanged = values.to(self._device).contiguous()
        found = [torch.empty_like(exchanged) for _ in range(distributed.get_world_size(group))]
        self._wait(distributed.all_gather(found, exchanged, group=group, async_op=True))
        return [each.to(values.device) for each in found]

    def _wait(self, work: Any) -> None:
        """Wait for the others as long as they may take. Python's own wait hears of no signal."""
        deadline = time.monotonic() + self._timeout
        try:
            while not work.is_completed():
                self._check()
                if time.monotonic() > deadline:
                    raise TrainingError(
                        f"processes: one has not answered for {self._timeout:g} s: look into its log; if a step takes "
                        "longer, raise timeout"
                    )
                time.sleep(POLL)
            work.wait()
        except RuntimeError as error:
            if isinstance(error, TrainingError):
                raise
            raise TrainingError(
                f"processes: process {self.rank} has lost another one ({in_words(error, 120)}): look into that one's "
                "log, and go on with --resume"
            ) from error
