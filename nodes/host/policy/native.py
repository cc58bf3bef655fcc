"""A host MODEL as the core's Policy, and a host VAE as its Decoder.

    v(x, sigma) = (x - denoised) / sigma          denoised from the host's own sampling_function: the same guidance and patches as in generation

Memory is the host's: the model is loaded by load_models_gpu and may be evicted by a VAE or another model and come back. The adapter is
put in and taken out as a ModelPatcher injection, so that the host loads, patches (LoRAs, ModelSamplingSD3) and offloads the model's own
layers as if there were no adapter. What the host does to weights happens under inference_mode, as in its own nodes; only the network is
called outside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.samplers
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import PatcherInjection
from torch import Tensor, nn

from ....pave_core.config.train import LoraConfig, RolloutConfig
from ....pave_core.errors import ConfigError
from ....pave_core.flow.schedule import check_sigmas
from ....pave_core.policies.adapter import LoraAdapter
from ....pave_core.training.loop import seeded
from .autograd import Tracked, out_of_place
from .conditioning import Keyframes, NativeCond, Prepared, encode, prepare

SCHEDULERS: list[str] = comfy.samplers.SCHEDULER_NAMES
_INJECTION = "pave_lora"
MIN_FIRST_SIGMA = 0.95  # schedulers of the host begin a little below 1


@dataclass(frozen=True)
class PolicySettings:
    """PAVE_POLICY: the model to tune, as a user generates with it, and the adapter that it gets."""

    model: ModelPatcher
    clip: comfy.sd.CLIP
    vae: comfy.sd.VAE
    lora: LoraConfig
    cfg: float = 1.0
    guidance: float = 3.5
    negative_prompt: str = ""


@dataclass(frozen=True)
class RolloutSettings:
    """PAVE_ROLLOUT_SETTINGS: how images are drawn while training."""

    config: RolloutConfig
    width: int = 512
    height: int = 512
    scheduler: str = "simple"
    sigmas: tuple[float, ...] | None = None  # in place of the scheduler's


@dataclass(frozen=True)
class SamplingSettings:
    """How the policy generates; the same widgets as a KSampler has, so that training sees what generation does."""

    width: int
    height: int
    scheduler: str = "simple"
    cfg: float = 1.0
    guidance: float = 3.5
    negative_prompt: str = ""
    sigmas: tuple[float, ...] | None = None

    @classmethod
    def of(cls, policy: PolicySettings, rollout: RolloutSettings) -> SamplingSettings:
        """The two settings of a run that say how images are drawn, in one."""
        picture = (rollout.width, rollout.height, rollout.scheduler)
        return cls(*picture, policy.cfg, policy.guidance, policy.negative_prompt, rollout.sigmas)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for recipes."""
        return asdict(self)


class NativePolicy:
    """The policy on a clone of MODEL; use it as a context manager. The MODEL that came in is left as it was.

    The adapter is in the model inside the `with` block and nowhere else; its values outlive the block, and a next block goes on with them.
    Without `lora` there is no adapter: the policy only draws.

    Encode all prompts before the first velocity(): text encoder and diffusion model then need not share the card.
    """

    def __init__(
        self, model: ModelPatcher, clip: comfy.sd.CLIP, vae: comfy.sd.VAE, settings: SamplingSettings, lora: LoraConfig | None, seed: int = 0
    ) -> None:
        require_flow_model(model)
        self.latent_shape = latent_shape(model, vae, settings)
        self.device: torch.device = model.load_device
        self._source, self._clip, self._settings = model, clip, settings
        self._lora, self._seed = lora, seed
        self._patcher = _own(model, clip)
        self._keyframes = Keyframes(self._patcher)
        self._negative: list[Any] | None = None
        self._adapter: LoraAdapter | None = None
        self._tracked: Tracked | None = None
        self._sigmas: tuple[float, ...] = ()  # the schedule that was asked for last
        self._sample_sigmas = torch.empty(0)  # the same on the device
        self._session = 0
        self._loaded = 0  # bytes on the device after the last load

    def __enter__(self) -> NativePolicy:
        self._session += 1
        try:
            self._load()
            if self._lora is not None:
                _set_training(True)
                if self._adapter is None:
                    model = self._patcher.model.diffusion_model
                    self._adapter = LoraAdapter(model, self._lora, seeded(self._seed, "adapter"), self.device)
                    self._adapter.detach()
                self._patcher.set_injections(_INJECTION, [PatcherInjection(inject=self._inject, eject=self._eject)])
                self._patcher.inject_model()
            self._patcher.pre_run()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with torch.inference_mode():
            self._patcher.eject_model()
            self._patcher.remove_injections(_INJECTION)
            self._patcher.cleanup()
            self._patcher.restore_hook_patches()
        _set_training(False)

    def sigmas(self, steps: int) -> tuple[float, ...]:
        """The model's own schedule, as KSampler would use it: T + 1 floats. What hangs on MODEL sees it as that of the sampling."""
        self._sigmas = check_sigmas(self._schedule(steps), steps)
        self._sample_sigmas = torch.tensor(self._sigmas, device=self.device)
        return self._sigmas

    def _schedule(self, steps: int) -> Sequence[float]:
        own = self._settings.sigmas
        if own is None:
            sampling = self._patcher.get_model_object("model_sampling")
            return comfy.samplers.calculate_sigmas(sampling, self._settings.scheduler, steps).tolist()
        if own[0] < MIN_FIRST_SIGMA:
            raise ConfigError(
                f"sigmas: they begin at {own[0]:.3f}: images are drawn from pure noise, which is at 1; use a scheduler with denoise 1 and the whole "
                "of its sigmas"
            )
        return own

    @torch.no_grad()
    def encode(self, prompt: str) -> NativeCond:
        """The host's text encoder, as CLIPTextEncode and FluxGuidance call it."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._negative is None:
            self._negative = encode(self._clip, self._settings.negative_prompt, self._settings.guidance)
        return NativeCond(encode(self._clip, prompt, self._settings.guidance))

    def velocity(self, x: Tensor, sigma: Tensor, cond: NativeCond) -> Tensor:
        """x (B, *S), sigma (B,) -> (B, *S) fp32. Raises the host's interruption if the user pressed Cancel."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if self._patcher.loaded_size() < self._loaded or (self._adapter is not None and not self._patcher.is_injected):
            self._load()  # others have made it leave its device, wholly or in part
        if cond.prepared is None or cond.session != self._session:
            assert self._negative is not None  # encode() made `cond`
            cond.prepared = prepare(self._patcher, cond.positive, self._negative, self.latent_shape)
            cond.session = self._session
        prepared = cond.prepared
        if prepared.follows_sigma and len(x) > 1 and not bool((sigma == sigma[0]).all()):
            return torch.cat([self._velocity(x[i : i + 1], sigma[i : i + 1], prepared) for i in range(len(x))])
        return self._velocity(x, sigma, prepared)

    def _velocity(self, x: Tensor, sigma: Tensor, prepared: Prepared) -> Tensor:
        self._keyframes.go_to(prepared, self._sigmas, sigma[0])
        guider = comfy.samplers.CFGGuider(self._patcher)
        guider.set_cfg(self._settings.cfg)
        guider.inner_model, guider.conds, guider.model_options = self._patcher.model, prepared.conds, prepared.options
        options = comfy.model_patcher.create_model_options_clone(prepared.options)
        options.setdefault("transformer_options", {})["sample_sigmas"] = self._sample_sigmas
        with out_of_place() if torch.is_grad_enabled() else nullcontext():
            denoised = guider(x, sigma, model_options=options, seed=0)
        return (x - denoised).float() / sigma.view(-1, *(1,) * (x.ndim - 1))

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The adapter's parameters."""
        return self._require_adapter().parameters()

    @contextmanager
    def reference(self) -> Iterator[None]:
        """The base model, with whatever patches MODEL came with."""
        with self._require_adapter().disabled():
            yield

    def fingerprint(self) -> str:
        """A digest of the base weights' names, shapes and first values, and of the patches that lie on MODEL."""
        digest = hashlib.blake2b(digest_size=16)
        with self._patcher.use_ejected():
            for name, value in _saved_tensors(self._source.model.diffusion_model):
                if f"diffusion_model.{name}" not in self._source.patches:
                    digest.update(f"{name}{tuple(value.shape)}".encode())
                    digest.update(value.data.flatten()[:64].to("cpu", torch.float32).numpy().tobytes())
        for key, patches in sorted(self._source.patches.items()):
            digest.update(f"{key}{[(p[0], p[2]) for p in patches]}".encode())
        return digest.hexdigest()

    def export(self, values: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The adapter in the host's key format, on the CPU: as it is, or with the values of an earlier state."""
        return self._require_adapter().export(values)

    def _require_adapter(self) -> LoraAdapter:
        if self._adapter is None:
            raise RuntimeError("NativePolicy is used outside its with block")
        return self._adapter

    @torch.inference_mode()
    def _load(self) -> None:
        """Bring the model to its device, with room for the activations of a backward pass."""
        memory = self._patcher.memory_required((2, *self.latent_shape))
        comfy.model_management.load_models_gpu([self._patcher], memory_required=memory)
        self._loaded = self._patcher.loaded_size()

    def _inject(self, patcher: ModelPatcher) -> None:
        with torch.inference_mode(False):  # the host's may be on
            hooked = {key.removeprefix("diffusion_model.") for keys in patcher.hook_patches.values() for key in keys}
            self._tracked = Tracked(patcher.model.diffusion_model, hooked)
            self._require_adapter().attach()

    def _eject(self, patcher: ModelPatcher) -> None:
        self._require_adapter().detach()
        if self._tracked is not None:
            self._tracked.undo()


class NativeDecoder:
    """A host VAE as the core's Decoder, with the latent format of `model`."""

    def __init__(self, model: ModelPatcher, vae: comfy.sd.VAE) -> None:
        self._process_out = model.model.process_latent_out
        self._vae = vae

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """latents (B, *S) -> images (B, H, W, 3) in [0, 1] on the CPU, tiled only where the host must."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        with torch.inference_mode():
            images = self._vae.decode(self._process_out(latents))
        return images.reshape(-1, *images.shape[-3:])[..., :3].to("cpu", torch.float32, copy=True)


def _own(model: ModelPatcher, clip: comfy.sd.CLIP) -> ModelPatcher:
    """A clone of MODEL to work on. Hooks write into weights, so that a dynamically loaded model (newer hosts) is loaded the plain way for them."""
    dynamic = clip.apply_hooks_to_conds and getattr(model, "is_dynamic", lambda: False)()
    own: Any = model.get_non_dynamic_delegate() if dynamic else model.clone()  # pyright: ignore[reportAttributeAccessIssue]
    own.patch_hooks = torch.inference_mode()(own.patch_hooks)  # called between two calls of the network, and it writes into inference tensors
    return own


def _saved_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and persistent buffers themselves, under the names and in the order of state_dict().

    state_dict() makes views, which tensors made under inference_mode refuse, and quantised layers put something else into it.
    """
    for path, module in model.named_modules(remove_duplicate=False):
        saved = {**module._parameters, **{name: b for name, b in module._buffers.items() if name not in module._non_persistent_buffers_set}}
        yield from ((f"{path}.{name}" if path else name, tensor) for name, tensor in saved.items() if tensor is not None)


def _set_training(on: bool) -> None:
    """Tell hosts that have the flag; they then keep to operations that can be differentiated."""
    if hasattr(comfy.model_management, "in_training"):
        comfy.model_management.in_training = on  # pyright: ignore[reportAttributeAccessIssue]


def require_flow_model(model: ModelPatcher) -> None:
    """ConfigError unless MODEL is a rectified-flow model that predicts the velocity."""
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, comfy.model_sampling.CONST):
        kind = type(model.model).__name__
        raise ConfigError(
            f"model: {kind} is not a flow model: Pave-GRPO needs one that predicts a velocity (SD3 / 3.5, FLUX, Qwen-Image, Z-Image, Lumina "
            "2, Chroma, AuraFlow, HiDream, Wan)"
        )


def latent_shape(model: ModelPatcher, vae: comfy.sd.VAE, settings: SamplingSettings) -> tuple[int, ...]:
    """*S of one image of settings.width x settings.height; ConfigError where MODEL and VAE do not belong together."""
    latent_format = model.model.latent_format
    if vae.latent_channels != latent_format.latent_channels:
        raise ConfigError(
            f"vae: it has {vae.latent_channels} latent channels, the model has {latent_format.latent_channels}: connect the VAE that belongs "
            "to this model"
        )
    factor = int(vae.spacial_compression_decode())  # pyright: ignore[reportArgumentType]
    for name, size in (("width", settings.width), ("height", settings.height)):
        if size < factor or size % factor:
            raise ConfigError(f"{name}: {size} is not a multiple of {factor}, the VAE's factor: use {max(factor, size // factor * factor)}")
    frames = (1,) if latent_format.latent_dimensions == 3 else ()
    return (latent_format.latent_channels, *frames, settings.height // factor, settings.width // factor)
