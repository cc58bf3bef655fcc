"""A host MODEL as the core's Policy.

    v(x, sigma) = (x - denoised) / sigma               in the coordinates of coordinates.py

`denoised` comes from the host's own sampling_function: with the same guidance and patches as in generation.

The host manages the memory: the model is loaded by load_models_gpu, may be evicted by a VAE or another model, and is
then loaded again. The adapter is put in and taken out as a ModelPatcher injection, so that the host loads, patches
(LoRAs, ModelSamplingSD3) and offloads the model's own layers as if there were no adapter. Whatever the host does to
weights happens under inference_mode, as in its own nodes; only the network is called outside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, replace
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
from comfyui_version import __version__ as comfyui_version
from torch import Tensor, nn

from ....pave_core.config.memory import MemoryConfig
from ....pave_core.memory.calls import Call, measure_call
from ....pave_core.memory.needs import Evaluation
from ....pave_core.policies.adapter import LoraAdapter
from ....pave_core.policies.gradient_check import check_gradient
from ....pave_core.policies.groups import by_groups
from ....pave_core.seeds import seeded
from ....pave_core.types import GradientCheck
from .. import interrupt
from .architecture import architecture_of
from .attached import few_steps, may_skip_calls, require_every_call, require_gradient, uncompile
from .autograd.kernels import attention_with_gradient
from .autograd.network import DifferentiableNetwork, taking_gradients
from .autograd.recompute import Recomputed
from .conditioning import Keyframes, NativeCond, Prepared, encode, prepare
from .coordinates import coordinates_of, velocity
from .fingerprint import fingerprint, is_of
from .fit import compute_dtype, latent_shape, name_of, require_flow_model, schedule
from .joined import Joining
from .measure import measure_evaluation
from .on_device import OnDevice
from .probe import probe, takes
from .settings import Picture, PolicySettings
from .shelf import Shelf

_INJECTION = "pave_lora"
LARGE = 2**30
"""Bytes of a model from which "auto" checkpoints its blocks where nothing else is known."""
PREPARED = 256
"""The conditionings of so many prompts are kept as prepared for the model: some models have theirs on the device."""
SAME_LEVEL = 1e-5
"""By how much, relative to it, a noise level may differ from the schedule's by rounding."""
MEASURED_SIDES = (128, 256, 384)
"""Pixels of an image's side at which measure() measures."""


class NativePolicy:
    """The policy on a clone of MODEL; use it as a context manager. The MODEL itself is left as it was.

    The adapter is in the model only inside the `with` block; its values outlive the block, and the next block goes on
    with them. Without `settings.lora` there is no adapter: the policy can only sample. seed: of the adapter's initial
    values. memory: what the update computes again instead of keeping it. check: called before each call of a network;
    what it raises ends the work. ConfigError if MODEL, VAE and picture do not
    suit the method.

    Encode all prompts before the first velocity(): text encoder and diffusion model then need not share the GPU.
    """

    def __init__(
        self,
        settings: PolicySettings,
        picture: Picture,
        *,
        seed: int = 0,
        memory: MemoryConfig | None = None,
        check: Callable[[], None] = interrupt.check,
    ) -> None:
        require_flow_model(settings.model)
        require_every_call(settings.model)
        if settings.lora is not None:
            require_gradient(settings.model)
        self.latent_shape = latent_shape(settings.model, settings.vae, picture)
        self.device: torch.device = settings.model.load_device
        # The gradient of a mean over latent elements is so small for each of them that fp16 would round it to 0.
        in_fp16 = compute_dtype(settings.model) == torch.float16
        self.loss_scale = 2.0 ** int(math.log2(math.prod(self.latent_shape))) if in_fp16 else 1.0
        self._settings, self._picture, self._seed, self._check = settings, picture, seed, check
        self._memory = memory or MemoryConfig()
        self._patcher = _own(settings.model, settings.clip)
        self._was_compiled = uncompile(self._patcher)
        self._coordinates = coordinates_of(self._patcher.get_model_object("model_sampling"))
        self._keyframes = Keyframes(self._patcher)
        self._shelf = Shelf()
        self._prepared: dict[NativeCond, Prepared] = {}  # of this session; the one used last is the last
        self._joining = Joining()
        self._negative: list[Any] | None = None
        self._adapter: LoraAdapter | None = None
        self._network: DifferentiableNetwork | None = None
        self._sigmas: tuple[float, ...] = ()  # the host's noise levels at the last call of sigmas()
        self._sample_sigmas = torch.empty(0)  # the same on the device
        self._modes = ExitStack()
        room = self._patcher.memory_required((2, *self.latent_shape))
        self._auto_checkpointing = self._patcher.model_size() > LARGE  # until it is known what a run needs
        self._on_device = OnDevice(self._patcher, offload=self._memory.offload, room=room)

    def __enter__(self) -> NativePolicy:
        self._forget()
        self._modes.enter_context(torch.inference_mode(False))  # the host's nodes run in it, which stops autograd
        try:
            self._on_device.load()
            if self._settings.lora is not None:
                _set_training(True)
                if self._adapter is None:
                    model = self._patcher.model.diffusion_model
                    fresh = seeded(self._seed, "adapter")
                    self._adapter = LoraAdapter(model, self._settings.lora, generator=fresh, device=self.device)
                    self._adapter.detach()
                self._patcher.set_injections(_INJECTION, [PatcherInjection(inject=self._inject, eject=self._eject)])
                self._patcher.inject_model()
            self._patcher.pre_run()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with torch.inference_mode():
            self._patcher.eject_model()
            self._patcher.remove_injections(_INJECTION)
            self._patcher.cleanup()
            self._patcher.restore_hook_patches()
        self._forget()
        _set_training(False)
        self._modes.close()

    def sigmas(self, steps: int) -> tuple[float, ...]:
        """The sigma grid: T + 1 floats. Later velocities show the host's levels (fit.schedule) to patches and hooks."""
        self._sigmas = schedule(self._patcher, self._picture, steps)
        self._sample_sigmas = torch.tensor(self._sigmas, device=self.device)
        return self._coordinates.sigmas(self._sigmas)

    @torch.no_grad()
    def encode(self, prompt: str) -> NativeCond:
        """The conditioning of `prompt`, as CLIPTextEncode and FluxGuidance make it."""
        self._check()
        guidance = self._settings.guidance
        if self._negative is None:
            self._negative = encode(self._settings.clip, guidance.negative_prompt, guidance.guidance)
        return NativeCond(self._shelf.put(encode(self._settings.clip, prompt, guidance.guidance)))

    def probe(self, cond: NativeCond) -> None:
        """Ask for one velocity at the first sigma. ConfigError if the network cannot take the size; see probe.probe."""
        probe(self._caller(cond), self.latent_shape, picture=self._picture, name=name_of(self._patcher))

    def _caller(self, cond: NativeCond) -> Callable[..., Tensor]:
        """Velocities (n, *S) at the first sigma as a function of the latent shape *S, which may be another than the
        run's, and of n (1 if not given).
        """
        prepared: dict[tuple[int, ...], Prepared] = {}

        def call(shape: tuple[int, ...], n: int = 1) -> Tensor:
            x = torch.randn(n, *shape, generator=seeded(self._seed, "probe")).to(self.device)
            sigma = x.new_full((n,), self._coordinates.sigmas(self._sigmas)[0])
            if shape == self.latent_shape:
                return self.velocity(x, sigma, [cond] * n)
            assert self._negative is not None  # encode() made `cond`
            if shape not in prepared:
                prepared[shape] = prepare(self._patcher, cond.positive, self._negative, shape)
            return self._velocity(x, sigma, prepared[shape])

        return call

    def measure(self, cond: NativeCond, batch_size: int = 1) -> tuple[Evaluation, Call | None]:
        """What an evaluation keeps for backward, at any size; and what calls take at this one (see measure_call).

        Blocks are computed again meanwhile, where they can be, so that little memory is needed. After sigmas().
        """
        call, model = self._caller(cond), self._patcher.model.diffusion_model
        memory = self._memory
        self._remember(replace(memory, checkpointing="on", recompute_chains=False))
        try:
            with torch.no_grad():
                call(self.latent_shape)  # which loads the model
                shapes = [shape for shape in self._small_shapes() if takes(call, shape)] or [self.latent_shape]
            evaluation = measure_evaluation(call, self._require_network(), model=model, shapes=shapes)
            own = list(self.parameters().values())
            run = measure_call(
                lambda n: call(self.latent_shape, n), own, batch_size=batch_size, again=self._checkpoints()
            )
            return evaluation, run
        finally:
            self._remember(memory)

    def adopt(self, *, checkpointing: bool, room: float) -> None:
        """Compute blocks again or not where the setting is "auto", and leave `room` bytes beside the weights."""
        self._auto_checkpointing, self._on_device.room = checkpointing, room
        with self._patcher.use_ejected():
            self._on_device.load()

    def _remember(self, memory: MemoryConfig) -> None:
        """Take other settings of memory."""
        with self._patcher.use_ejected():  # the network is made differentiable again, as they say
            self._memory = memory

    def _small_shapes(self) -> list[tuple[int, ...]]:
        """Latent shapes of small images, to measure at."""
        pictures = (replace(self._picture, width=side, height=side) for side in MEASURED_SIDES)
        return [latent_shape(self._settings.model, self._settings.vae, picture) for picture in pictures]

    def velocity(self, x: Tensor, sigma: Tensor, conds: Sequence[NativeCond]) -> Tensor:
        """x (B, *S), sigma (B,) and B conditionings -> (B, *S) fp32. See joined.py for the calls of the network.

        Raises the host's interruption if the user pressed Cancel.
        """
        self._check()
        if not self._on_device.holds() or (self._adapter is not None and not self._patcher.is_injected):
            self._on_device.load()  # other models have made it leave, at least in part
            self._patcher.pre_run()
        if torch.is_grad_enabled():
            self._on_device.clear()
        return by_groups(self._call, x, sigma, self._joining.calls(tuple(map(self._prepare, conds)), sigma))

    def _prepare(self, cond: NativeCond) -> Prepared:
        prepared = self._prepared.pop(cond, None)
        if prepared is None:
            assert self._negative is not None  # encode() made `cond`
            prepared = prepare(self._patcher, cond.positive, self._negative, self.latent_shape)
        self._prepared[cond] = prepared
        if len(self._prepared) > PREPARED:
            del self._prepared[next(iter(self._prepared))]
        return prepared

    def _forget(self) -> None:
        """Drop what was prepared for the model as it was."""
        self._prepared.clear()
        self._joining.forget()

    def _call(self, x: Tensor, sigma: Tensor, prepared: Prepared) -> Tensor:
        """_velocity(), of which nothing but the inputs is kept for backward where the settings say so."""
        if self._memory.recompute_chains and torch.is_grad_enabled():
            own = tuple(self.parameters().values())
            return Recomputed(lambda x, sigma: self._velocity(x, sigma, prepared), own)(x, sigma)
        return self._velocity(x, sigma, prepared)

    def _velocity(self, x: Tensor, sigma: Tensor, prepared: Prepared) -> Tensor:
        _forget_kept(self._patcher)
        y, level = self._coordinates.to_host(x, sigma)
        self._keyframes.go_to(prepared, self._sigmas, level[0])
        guider = comfy.samplers.CFGGuider(self._patcher)
        guider.set_cfg(self._settings.guidance.cfg)
        guider.inner_model, guider.conds, guider.model_options = self._patcher.model, prepared.conds, prepared.options
        options = comfy.model_patcher.create_model_options_clone(prepared.options)
        options.setdefault("transformer_options", {})["sample_sigmas"] = self._schedule_seen(prepared, level[0])
        if torch.is_grad_enabled():
            options["transformer_options"] = attention_with_gradient(options["transformer_options"])
        with taking_gradients() if torch.is_grad_enabled() else nullcontext():
            denoised = guider(y, level, model_options=options, seed=0)
        return velocity(x, sigma, self._coordinates.data(denoised))

    def _schedule_seen(self, prepared: Prepared, level: Tensor) -> Tensor:
        """The schedule in which a patch looks up the noise level of a call, to tell which step it is in.

        The finer steps of the loss are on no schedule: theirs stands in for that of the step that they lie in.
        """
        schedule = self._sample_sigmas
        if not prepared.follows_sigma:
            return schedule
        step = max(0, int((schedule >= level * (1 - SAME_LEVEL)).sum()) - 1)
        return torch.cat([schedule[:step], level[None].to(schedule), schedule[step + 1 :]])

    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The adapter's parameters by name."""
        return self._require_adapter().parameters()

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, the adapter is off: the base model, with the patches that MODEL came with."""
        with self._require_adapter().disabled():
            yield

    def fingerprint(self) -> str:
        """A digest of the base weights and of MODEL's patches; see fingerprint.py."""
        return fingerprint(self._patcher, self._settings.model.patches)

    def check_gradient(self, cond: NativeCond) -> GradientCheck:
        """As in RunPolicy; sigmas() has been called. Blocks that write over what autograd keeps are checkpointed from
        here on.
        """
        sigma = self._coordinates.sigmas(self._sigmas)[1]
        x = sigma * torch.randn(1, *self.latent_shape, generator=seeded(self._seed, "check")).to(self.device)

        def check() -> GradientCheck:
            return check_gradient(
                lambda: self.velocity(x, x.new_full((1,), sigma), [cond]),
                self.parameters(),
                scale=self.loss_scale,
                kept=lambda: self._require_network().keeping_some_blocks(),  # a call may make another network
            )

        try:
            return check()
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error):
                raise
            self._remember(replace(self._memory, checkpointing="on"))
            return check()

    def leave_out(self, layers: Collection[str]) -> None:
        """As in RunPolicy."""
        with self._patcher.use_ejected():
            self._require_adapter().leave_out(layers)

    def is_base(self, fingerprint: str) -> bool:
        """Whether a fingerprint, of this version or an earlier one, is this base model's."""
        return is_of(fingerprint, self._patcher, self._settings.model.patches)

    def export(self, values: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The adapter on the CPU, in the host's key format. values: as in RunPolicy."""
        return self._require_adapter().export(values)

    def remarks(self) -> list[str]:
        """What is worth knowing of MODEL before it is trained."""
        found = [few_steps(self._settings.model), may_skip_calls(self._settings.model)]
        if self._was_compiled:
            found.append("model: it is trained without torch.compile, which changes names and not results")
        narrow = {} if self._adapter is None else self._adapter.narrow
        if narrow:
            name, width = min(narrow.items(), key=lambda item: item[1])
            found.append(
                f"rank: {len(narrow)} layers are narrower and get LoRAs of their own width, which is all that they can "
                f"hold ({name}: {width})"
            )
        return [remark for remark in found if remark is not None]

    def rest(self) -> None:
        """Nothing: the host makes room when others need it."""

    def describe(self) -> dict[str, Any]:
        """How the policy samples, the host's version, and the model's architecture where it is known, for recipes."""
        sampling = self._picture.to_recipe() | asdict(self._settings.guidance)
        architecture = architecture_of(self._settings.model)
        known = {} if architecture is None else {"architecture": architecture}
        return {"comfyui": comfyui_version, "sampling": sampling, **known}

    def _require_adapter(self) -> LoraAdapter:
        if self._adapter is None:
            raise RuntimeError("NativePolicy is used outside its with block")
        return self._adapter

    def _require_network(self) -> DifferentiableNetwork:
        if self._network is None:
            raise RuntimeError("NativePolicy is used outside its with block")
        return self._network

    def _inject(self, patcher: ModelPatcher) -> None:
        with torch.inference_mode(False):  # the host may have it on
            hooked = {key.removeprefix("diffusion_model.") for keys in patcher.hook_patches.values() for key in keys}
            self._network = DifferentiableNetwork(patcher.model.diffusion_model, hooked)
            self._require_adapter().attach()
            if self._checkpoints():
                self._network.checkpoint_blocks()

    def _checkpoints(self) -> bool:
        """Whether the network's blocks are computed again. Not where hooks rewrite weights meanwhile."""
        if self._patcher.hook_patches:
            return False
        choice = self._memory.checkpointing
        return choice == "on" or (choice == "auto" and self._auto_checkpointing)

    def _eject(self, patcher: ModelPatcher) -> None:
        _forget_kept(patcher)
        self._require_adapter().detach()
        if self._network is not None:
            self._network.undo()


def _own(model: ModelPatcher, clip: comfy.sd.CLIP) -> ModelPatcher:
    """A clone of MODEL to train. Hooks write into weights, so that with hooks it is not loaded dynamically.

    Newer hosts load models dynamically: parts of them, when they are used.
    """
    dynamic = clip.apply_hooks_to_conds and getattr(model, "is_dynamic", lambda: False)()
    own: Any = model.get_non_dynamic_delegate() if dynamic else model.clone()  # pyright: ignore[reportAttributeAccessIssue]
    # The host calls this between two calls of the network, and it writes into inference tensors.
    own.patch_hooks = torch.inference_mode()(own.patch_hooks)
    return own


def _forget_kept(patcher: ModelPatcher) -> None:
    """Drop what a network keeps of earlier calls: HiDream-O1 keeps K and V of a prompt, though its weights change."""
    forget = getattr(patcher.model.diffusion_model, "clear_kv_cache", None)
    if forget is not None:
        forget()


def _set_training(on: bool) -> None:
    """Set the host's training flag, if it has one: it then uses only operations that can be differentiated."""
    if hasattr(comfy.model_management, "in_training"):
        comfy.model_management.in_training = on  # pyright: ignore[reportAttributeAccessIssue]
