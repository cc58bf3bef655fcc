"""A pipeline that runs itself without its network: what it would call it with, at which sigmas, and how it decodes.

Prompts, masks, positions, embedded guidance, the schedule with its dependence on the resolution, the layout of latents
and the scale of the VAE are those of the pipeline's own __call__: it runs, with something in the place of the network
that notes its arguments and gives a velocity of 0. An Euler step with that changes nothing, so that a call of one step
decodes the latents that it is given.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError, PaveError, in_words
from .families import Arguments, Family

STEPS = 2
"""Steps of a call whose steps do not matter: of one alone, some schedules (LTX) make NaN."""
SAME_TIME = 0.01
"""By how much of its whole range a time may differ from the family's by rounding (bf16)."""


@dataclass(frozen=True)
class Recording:
    """One call of a pipeline, of T steps."""

    calls: tuple[Arguments, ...]  # of the network, in order: T, or 2 T where guidance has a call of its own
    sigmas: tuple[float, ...]  # T + 1
    output: Any  # of the pipeline


class Recorder:
    """Runs a pipeline without its network. size: the pipeline's arguments for the size of the picture."""

    def __init__(self, pipeline: Any, network: nn.Module, family: Family, size: Arguments) -> None:
        self._pipeline, self._network, self._family, self._size = pipeline, network, family, size
        self.arguments = inspect.signature(type(pipeline).__call__).parameters  # of the pipeline
        self._signature = inspect.signature(network.forward)
        self._encoded: Any = None  # what encode_prompt gave last without a negative prompt

    def prompt(self, prompt: str, arguments: Arguments) -> Recording:
        """STEPS steps with a prompt. arguments: the pipeline's, such as its guidance."""
        return self._run({"prompt": prompt, "num_inference_steps": STEPS} | arguments)

    def schedule(self, steps: int) -> Recording:
        """T = `steps` steps, of any prompt."""
        with self._encoded_before():
            return self._run({"prompt": "", "num_inference_steps": steps} | self._without_guidance())

    def decode(self, latents: Tensor) -> Any:
        """What the pipeline makes of latents, in its own layout: the value of output_type "pt"."""
        arguments = {"prompt": [""] * len(latents), "latents": latents, "output_type": "pt"}
        noise = {"generator": torch.Generator().manual_seed(0)}  # which some VAEs take
        with self._encoded_before():
            return self._run({"num_inference_steps": STEPS} | arguments | noise | self._without_guidance()).output

    def _without_guidance(self) -> Arguments:
        return {} if self._family.cfg is None else {self._family.cfg: self._family.scale(1.0)}

    @torch.no_grad()
    def _run(self, arguments: Arguments) -> Recording:
        calls: list[Arguments] = []

        def noted(*args: Any, **kwargs: Any) -> tuple[Any]:
            calls.append(self._signature.bind(*args, **kwargs).arguments)
            return (self._family.nothing(calls[-1][self._family.latents]),)

        values = {"output_type": "latent"} | self._size | dict(self._family.fixed) | arguments
        try:
            with _attribute(self._network, "forward", noted):
                output = self._pipeline(**values, return_dict=False)[0]
        except (PaveError, torch.cuda.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a pipeline raises for what it cannot take
            size = ", ".join(f"{name} {value}" for name, value in self._size.items())
            raise ConfigError(
                f"pipeline: {type(self._pipeline).__name__} cannot run with {size} ({in_words(error)}): choose a size "
                "that it takes, usually a multiple of 16"
            ) from error
        sigmas = self._pipeline.scheduler.sigmas
        self._check_times(calls, sigmas)
        return Recording(tuple(calls), tuple(sigmas.double().tolist()), output)

    def _check_times(self, calls: list[Arguments], sigmas: Tensor) -> None:
        """ConfigError if the network is told another time than the family says: it would be another function."""
        ends = self._family.time_of(torch.tensor([0.0, 1.0]))
        for i, call in enumerate(calls):
            time, sigma = call[self._family.time].cpu(), sigmas[i * (len(sigmas) - 1) // len(calls)].cpu()
            right = self._family.time_of(sigma.expand(len(time)))
            if time.ndim != 1 or (time - right).abs().max() > SAME_TIME * (ends[1] - ends[0]).abs():
                raise ConfigError(
                    f"pipeline: {type(self._pipeline).__name__} tells its network the time {time.flatten()[0]:.6g} at "
                    f"sigma {sigma:.6g}, and not {right[0]:.6g}: this version of diffusers, or this variant of the "
                    "model, is not known here"
                )

    @contextlib.contextmanager
    def _encoded_before(self) -> Iterator[None]:
        """Inside, the pipeline encodes no prompt, but takes what it made of one before: it makes no difference."""
        encode = self._pipeline.encode_prompt

        def once(*args: Any, **kwargs: Any) -> Any:
            if self._encoded is None:
                self._encoded = encode(*args, **kwargs)
            return self._encoded

        with _attribute(self._pipeline, "encode_prompt", once):
            yield


@contextlib.contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Inside, `owner` has this attribute of its own; afterwards what it had."""
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)
        if before is not None:
            setattr(owner, name, before)
