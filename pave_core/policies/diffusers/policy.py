"""A diffusers pipeline as a policy.

The latents are those of the pipeline's own loop, packed where it packs them: for the method they are numbers beside
each other. It samples by Euler steps on the pipeline's sigmas, also where the pipeline's own solver is another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...batches import nothing
from ...config.adapter import LoraConfig
from ...config.fields import check, setting
from ...config.memory import MemoryConfig
from ...errors import NOT_FINITE, ConfigError, quoted
from ...seeds import seeded
from ...types import GradientCheck
from ..adapter import LoraAdapter
from ..architecture import architecture_of_pipeline
from ..fingerprint import digest_of
from ..gradient_check import check_gradient
from ..groups import by_groups
from .export import Exported, export
from .families import Arguments, Family, family_of
from .placement import Placement, moved
from .recorded import STEPS, Recorder

LARGE = 2**30
"""Bytes of a network from which "auto" checkpoints its blocks."""
PIPELINES_OWN = "simple"
"""What Pave Rollout Settings, and so a recipe, calls the pipeline's own schedule."""


@dataclass(frozen=True)
class Sampling:
    """How a pipeline draws while it is trained: the arguments of its call."""

    width: int = setting(
        512, "Image width while training. The LoRA carries over to larger images.", low=16, high=4096, step=8
    )
    height: int = setting(512, "Image height while training.", low=16, high=4096, step=8)
    cfg: float = setting(
        1.0,
        "Classifier-free guidance, as the pipeline's guidance_scale (true_cfg_scale of FLUX.1 and Qwen-Image). 1 "
        "switches it off, which is twice as fast.",
        low=0.0,
        high=30.0,
        step=0.1,
    )
    negative_prompt: str = setting("", "As the pipeline's; it matters only when cfg is above 1.", expert=True)
    guidance: float = setting(
        -1.0,
        "As guidance_scale of pipelines whose network reads it (FLUX). Below 0: the pipeline's own.",
        low=-1.0,
        high=30.0,
        step=0.1,
        expert=True,
    )
    frames: int = setting(
        1,
        "The frames of a video, for video models. The reward sees the middle one. 1 draws an image.",
        low=1,
        high=1025,
        remedy="1 draws an image",
        expert=True,
    )

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def of_recipe(cls, values: Mapping[str, Any]) -> tuple[Sampling, tuple[float, ...] | None]:
        """(the Sampling, the sigmas if it brings some) of a recipe's entry "sampling". ConfigError for wrong values."""
        scheduler, sigmas = values.get("scheduler", PIPELINES_OWN), values.get("sigmas")
        if scheduler != PIPELINES_OWN:
            raise ConfigError(
                f"scheduler: {quoted(scheduler)} is one of ComfyUI's, and a pipeline brings its own: leave it at "
                f"{PIPELINES_OWN}, or give sigmas"
            )
        if sigmas is not None and not (
            isinstance(sigmas, list | tuple) and all(isinstance(each, int | float) for each in sigmas)
        ):
            raise ConfigError(f"sigmas: {quoted(sigmas)} is not a list of numbers: give a schedule that falls to 0")
        known = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        return cls(**known), None if sigmas is None else tuple(sigmas)


@dataclass(frozen=True, eq=False)
class PipelineCond:
    """A prompt as the pipeline gives it to its network: all arguments but latents and time, of one item."""

    positive: Arguments
    negative: Arguments | None  # None without classifier-free guidance


class PipelinePolicy:
    """The policy on a pipeline (see folder.load); use it as a context manager.

    The adapter is in the network only inside the `with` block; its values outlive the block. Network and text encoders
    are on the device in turns: encode all prompts before the first velocity. seed: of the adapter's initial values.
    schedule: T + 1 sigmas instead of the pipeline's. check: called before each call of a network; what it raises ends
    the work. ConfigError where the pipeline cannot draw what `sampling` asks for.
    """

    def __init__(
        self,
        pipeline: Any,
        lora: LoraConfig | None,
        sampling: Sampling | None = None,
        *,
        device: torch.device | str = "cpu",
        seed: int = 0,
        memory: MemoryConfig | None = None,
        schedule: tuple[float, ...] | None = None,
        check: Callable[[], None] = nothing,
    ) -> None:
        self.device = torch.device(device)
        self.sampling = sampling or Sampling()
        self._pipeline, self._network = pipeline, pipeline.transformer
        self._family: Family = family_of(type(pipeline).__name__)(self._network)
        self._lora, self._seed, self._memory = lora, seed, memory or MemoryConfig()
        self._schedule, self._check = schedule, check
        self._adapter: LoraAdapter | None = None
        self._modes = ExitStack()
        self._remarks = [_with_euler_steps(pipeline)]
        for part in self._parts().values():
            part.eval().requires_grad_(False)
        self._placement = Placement(self._network, self.device, self._memory.offload)
        self._others_to(self.device)
        self.recorder = Recorder(pipeline, self._network, self._family, self._size())
        patch = 2 * getattr(pipeline, "vae_scale_factor", 8)
        self._grid = self.sampling.width // patch, self.sampling.height // patch  # of networks that pack 2 x 2 latents
        self._text_encoders: dict[str, nn.Module] = {}  # those that are off the device, where the network is then
        drawn = self.recorder.schedule(STEPS)
        self.latent_shape = self._family.shape(drawn.calls[0][self._family.latents], drawn.output)
        self._times = drawn.calls[0][self._family.time].dtype
        self.dtype = self._network.dtype
        # The gradient of a mean over latent elements is so small for each of them that fp16 would round it to 0.
        self.loss_scale = 2.0 ** int(math.log2(math.prod(self.latent_shape))) if self.dtype == torch.float16 else 1.0

    def _size(self) -> Arguments:
        size: Arguments = {"width": self.sampling.width, "height": self.sampling.height}
        if self._family.frames is not None:
            return size | {self._family.frames: self.sampling.frames}
        if self.sampling.frames > 1:
            raise ConfigError(f"frames: {self.sampling.frames} is above 1, and this model draws images: set it to 1")
        return size

    def __enter__(self) -> PipelinePolicy:
        self._modes.enter_context(torch.inference_mode(False))
        self._others_to(self.device)
        self._modes.enter_context(self._placement.copying())
        if self._lora is not None:
            if self._adapter is None:
                fresh = seeded(self._seed, "adapter")
                self._adapter = LoraAdapter(self._network, self._lora, generator=fresh, device=self.device)
            else:
                self._adapter.attach()
        if self._checkpoints():
            self._network.enable_gradient_checkpointing()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._checkpoints():
            self._network.disable_gradient_checkpointing()
        if self._adapter is not None:
            self._adapter.detach()
        self._to_encode()
        self._modes.close()

    def rest(self) -> None:
        """Take the pipeline off the device. It comes back with the next `with` block."""
        self._pipeline.to("cpu")

    def _checkpoints(self) -> bool:
        """Whether the network's blocks are computed again for their gradient, by diffusers' own checkpointing."""
        choice = self._memory.checkpointing
        if choice == "auto":
            return self._placement.copies or sum(p.nbytes for p in self._network.parameters()) > LARGE
        return choice == "on"

    def sigmas(self, steps: int) -> tuple[float, ...]:
        """The sigmas: with T = `steps`, T + 1 floats that fall to 0; the pipeline's for this size, or those given."""
        return self._schedule or self.recorder.schedule(steps).sigmas

    def encode(self, prompt: str) -> PipelineCond:
        """The conditioning of `prompt`, as the pipeline makes it."""
        self._check()
        self._to_encode()
        family, sampling = self._family, self.sampling
        guided, arguments = sampling.cfg > 1, {}
        if family.guidance is not None and sampling.guidance >= 0:
            arguments[family.guidance] = sampling.guidance
        if family.cfg is not None:
            arguments[family.cfg] = family.scale(sampling.cfg if guided else 1.0)
        if guided and "negative_prompt" in self.recorder.arguments:
            arguments["negative_prompt"] = sampling.negative_prompt
        calls = [self._conditioning(call) for call in self.recorder.prompt(prompt, arguments).calls]
        if not guided:
            return PipelineCond(calls[0], None)
        if family.joint is None and len(calls) == 2 * STEPS:
            return PipelineCond(calls[0], calls[1])
        parts = [{name: self._part(name, value, i) for name, value in calls[0].items()} for i in range(2)]
        if family.joint is None or any(len(each) != 1 for each in self._batched(parts[1])):
            raise ConfigError(
                f"cfg: {sampling.cfg} is above 1, and {type(self._pipeline).__name__} draws this model without "
                "classifier-free guidance: set it to 1"
            )
        return PipelineCond(*parts) if family.joint == "positive first" else PipelineCond(*reversed(parts))

    def _batched(self, call: Arguments) -> list[Any]:
        """The arguments of a call that have a row or an entry for each item."""
        return [call[name] for name in sorted(self._family.batched) if call.get(name) is not None]

    def _conditioning(self, call: Arguments) -> Arguments:
        return {name: value for name, value in call.items() if name not in (self._family.latents, self._family.time)}

    def _part(self, name: str, value: Any, i: int) -> Any:
        """Item i of an argument for two."""
        return value if value is None or name not in self._family.batched else value[i : i + 1]

    def velocity(self, x: Tensor, sigma: Tensor, conds: Sequence[PipelineCond]) -> Tensor:
        """x (B, *S), sigma (B,) and B conditionings -> (B, *S) fp32, with guidance."""
        self._check()
        self._to_compute()
        if self._memory.recompute_chains and torch.is_grad_enabled():
            return checkpoint(self._velocity, x, sigma, conds, use_reentrant=False, preserve_rng_state=False)
        return self._velocity(x, sigma, conds)

    def _velocity(self, x: Tensor, sigma: Tensor, conds: Sequence[PipelineCond]) -> Tensor:
        positive = self._calls(x, sigma, [cond.positive for cond in conds])
        negatives = [cond.negative for cond in conds if cond.negative is not None]
        if not negatives:
            return positive
        return self._family.guided(positive, self._calls(x, sigma, negatives), self.sampling.cfg)

    def _to_compute(self) -> None:
        """Put the network on the device, in the place of the text encoders. The pipeline then has none, so that it
        takes its device from another part.
        """
        if self._text_encoders:
            return
        for name, part in self._parts().items():
            if name.startswith("text_encoder"):
                self._text_encoders[name] = moved(part, torch.device("cpu"))
                vars(self._pipeline)[name] = None
        self._placement.come()

    def _to_encode(self) -> None:
        """The other way round."""
        if not self._text_encoders:
            return
        self._placement.leave()
        for name, part in self._text_encoders.items():
            vars(self._pipeline)[name] = moved(part, self.device)
        self._text_encoders = {}

    def _parts(self) -> dict[str, nn.Module]:
        """The pipeline's networks by name."""
        return {name: part for name, part in self._pipeline.components.items() if isinstance(part, nn.Module)}

    def _others_to(self, device: torch.device) -> None:
        """Move all networks but that which is trained."""
        for part in self._parts().values():
            if part is not self._network:
                moved(part, device)

    def _calls(self, x: Tensor, sigma: Tensor, conds: Sequence[Arguments]) -> Tensor:
        """The network's velocities (B, *S): one call for what can be one batch."""
        groups: dict[Any, list[int]] = {}
        for i, cond in enumerate(conds):
            groups.setdefault(self._structure(cond), []).append(i)
        return by_groups(self._call, x, sigma, [(rows, [conds[i] for i in rows]) for rows in groups.values()])

    def _structure(self, cond: Arguments) -> Any:
        """What conditionings of one batch have in common: the shapes of the tensors that are joined."""
        return tuple(tuple(value.shape) for value in self._batched(cond) if isinstance(value, Tensor))

    def _call(self, x: Tensor, sigma: Tensor, conds: Sequence[Arguments]) -> Tensor:
        family = self._family
        arguments = {name: self._joined(name, [cond[name] for cond in conds]) for name in conds[0]}
        arguments[family.latents] = family.inputs(x.to(self.dtype))
        arguments[family.time] = family.time_of(sigma).to(self._times)
        return family.velocity(self._network(**arguments)[0]).float()

    def _joined(self, name: str, values: Sequence[Any]) -> Any:
        """An argument for all items of a batch."""
        if name not in self._family.batched or values[0] is None:
            return values[0]
        if isinstance(values[0], list):
            return [each for value in values for each in value]
        return torch.cat([*values])

    def decoded(self, latents: Tensor) -> Tensor:
        """latents (B, *S) -> the pipeline's images (B, 3, H, W) in [0, 1]."""
        return self._family.images(self.recorder.decode(self._family.given(latents, *self._grid)))

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The adapter's parameters by name."""
        return self._require_adapter().parameters()

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, the adapter is off: the base model."""
        with self._require_adapter().disabled() if self._adapter is not None else nullcontext():
            yield

    def fingerprint(self) -> str:
        """A digest of the network's weights; see fingerprint.py."""
        own = {id(p) for p in (self._adapter.parameters().values() if self._adapter is not None else ())}
        here = (p for p in self._network.parameters() if id(p) not in own and p.device.type != "meta")
        return digest_of((*here, *self._placement.weights())).hexdigest()

    def is_base(self, fingerprint: str) -> bool:
        """Whether a fingerprint is this base model's."""
        return fingerprint == self.fingerprint()

    @torch.no_grad()
    def probe(self, cond: PipelineCond) -> None:
        """As in RunPolicy."""
        x = torch.randn(1, *self.latent_shape, generator=seeded(self._seed, "probe")).to(self.device)
        v = self.velocity(x, x.new_ones(1), [cond])
        if not v.isfinite().all():
            share = 1 - v.isfinite().float().mean().item()
            raise ConfigError(f"model: {share:.0%} of the first velocity is not finite: {NOT_FINITE}")

    def check_gradient(self, cond: PipelineCond) -> GradientCheck:
        """As in RunPolicy."""
        sigma = 0.5
        x = sigma * torch.randn(1, *self.latent_shape, generator=seeded(self._seed, "check")).to(self.device)
        return check_gradient(
            lambda: self.velocity(x, x.new_full((1,), sigma), [cond]),
            self.parameters(),
            scale=self.loss_scale,
            kept=nullcontext,
        )

    def leave_out(self, layers: Collection[str]) -> None:
        """As in RunPolicy."""
        self._require_adapter().leave_out(layers)

    def export(self, values: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The adapter on the CPU, in the host's keys, or diffusers' if the host has no such model. values: as in
        RunPolicy.
        """
        return self._exported(values).weights

    def _exported(self, values: Mapping[str, Tensor] | None = None) -> Exported:
        return export(self._network, self._require_adapter().export(values, prefix=""))

    def remarks(self) -> list[str]:
        """What is worth knowing of the pipeline before it is trained."""
        found = [*self._remarks]
        if self._adapter is not None and self._exported().format == "diffusers":
            found.append(
                "lora: ComfyUI has no model of this kind, so that the LoRA has the keys of diffusers' load_lora_weights"
            )
        return [remark for remark in found if remark is not None]

    def describe(self) -> dict[str, Any]:
        """How the policy samples, and the model's architecture where it is known, for recipes."""
        sampling = asdict(self.sampling) | {"scheduler": PIPELINES_OWN, "sigmas": self._schedule}
        pipeline = type(self._pipeline).__name__
        architecture = architecture_of_pipeline(pipeline, self._network.config)
        known = {} if architecture is None else {"architecture": architecture}
        return {"pipeline": pipeline, "sampling": sampling, **known}

    def _require_adapter(self) -> LoraAdapter:
        if self._adapter is None:
            raise RuntimeError("PipelinePolicy is used outside its with block")
        return self._adapter


class PipelineDecoder:
    """The pipeline's own way from latents to images."""

    def __init__(self, policy: PipelinePolicy) -> None:
        self._policy = policy

    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, *S) -> images (B, H, W, 3) fp32 in [0, 1] on the CPU."""
        return self._policy.decoded(latents).float().movedim(1, -1).cpu().clamp(0, 1)


def _with_euler_steps(pipeline: Any) -> str | None:
    """Give the pipeline a scheduler of Euler steps if it has another; what people should know of that."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    old = pipeline.scheduler
    if isinstance(old, FlowMatchEulerDiscreteScheduler):
        return None
    shift = float(old.config.get("flow_shift", None) or old.config.get("shift", None) or 1.0)
    steps = int(old.config.get("num_train_timesteps", 1000))
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=steps, shift=shift)
    return f"pipeline: its solver is {type(old).__name__}; the policy takes Euler steps with its shift, {shift:g}"
