"""What a run could leave changed on the user's machine, as one flat dictionary {name: value} to compare.

A value is compared by `==`. What must stay the same object is there as Same(object), which holds it, so that no other
object can come to lie at its address. Names read as places: "MODEL.diffusion_model.x_embedder.proj.weight: bytes".
"""

from __future__ import annotations

import decimal
import gc
import hashlib
import inspect
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import types
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

State = dict[str, Any]

PATCHED = (
    *("patches", "object_patches", "weight_wrapper_patches", "injections", "callbacks", "wrappers", "attachments"),
    *(
        "additional_models",
        "model_options",
        "hook_patches",
        "hook_patches_backup",
        "hook_backup",
        "cached_hook_patches",
    ),
    *(
        "current_hooks",
        "forced_hooks",
        "hook_mode",
        "is_clip",
        "skip_injection",
        "is_injected",
        "weight_inplace_update",
    ),
    *("load_device", "offload_device", "patches_uuid", "size", "parent", "force_cast_weights"),
)
"""The attributes of a ModelPatcher that other nodes read and write, as far as a host has them."""
OF_THE_HOST = {
    *("current_patcher", "current_weight_patches_uuid", "model_loaded_weight_memory", "model_lowvram", "device"),
    *("comfy_patched_weights", "lowvram_patch_counter", "model_offload_buffer_memory", "dynamic_vbars", "dynamic_pins"),
}
"""What the host itself notes on a model each time that any node has it loaded."""
LIBRARIES = (
    "torch",
    "torch.nn.functional",
    "torch.autograd.graph",
    "torch.utils.checkpoint",
    "torch.nn.modules.module",
)
"""Modules besides the host's own whose functions and classes are watched."""
HOST = {
    *("comfy", "comfy_extras", "comfy_execution", "comfy_api", "comfy_kitchen", "nodes", "execution", "server"),
    *("folder_paths", "latent_preview", "node_helpers"),
}
"""The host's own packages and modules."""
COUNTED = ("_default_prefix_root",)
"""What the host counts up in a class, with each graph that a node expands into."""
THREADS_OF_THE_HOST = ("async_to_sync", "tqdm_monitor")
"""Those that it keeps once something has needed them."""
MODULES = "modules"
"""The name under which a state has the set of the modules whose functions it has."""
THREADS = "threads"
"""The name under which a state has the names of the threads that run: Counter. One that has ended is not left."""


class Same:
    """Equal to itself, seen again."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)

    def __repr__(self) -> str:
        return f"{getattr(self.thing, '__qualname__', type(self.thing).__qualname__)} at {id(self.thing):#x}"


def of_parts(parts: Mapping[str, Any]) -> State:
    """The state of MODEL, CLIP and VAE, by the names in `parts`."""
    state: State = {}
    for name, part in parts.items():
        patcher = getattr(part, "patcher", part)
        for key in PATCHED:
            if hasattr(patcher, key):
                state[f"{name}: {key}"] = frozen(getattr(patcher, key))
        if part is not patcher:
            state |= {f"{name}: its {key}": frozen(value) for key, value in vars(part).items()}
        applied = {f": {key}" for key in patcher.object_patches}  # while it is loaded, and not otherwise
        network = _of_network(patcher.model)
        state |= {f"{name}.{key}": value for key, value in network.items() if key not in applied}
    return state


def _of_network(network: nn.Module) -> State:
    state: State = {}
    for path, module in network.named_modules():
        state[f"{path}: module"] = Same(module)
        state[f"{path}: type"] = type(module)
        for key, value in vars(module).items():
            if key not in OF_THE_HOST and key not in ("_parameters", "_buffers", "_modules"):
                state[f"{path}: {key}"] = frozen(value)
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            state |= {f"{path}.{key}: {what}": value for what, value in _of_tensor(tensor).items()}
    return state


def _of_tensor(tensor: Tensor | None) -> State:
    if tensor is None:
        return {"object": None}
    plain = tensor.detach()
    return {
        "object": Same(tensor),
        "type": type(tensor),
        "bytes": digest(plain),
        "dtype": tensor.dtype,
        "device": tensor.device,
        "layout": (tuple(tensor.shape), tensor.stride(), tensor.storage_offset()),
        "memory": tensor.untyped_storage().data_ptr(),
        "requires_grad": tensor.requires_grad,
        "gradient": None if tensor.is_inference() else tensor.grad is None,
        "is_inference": tensor.is_inference(),
        "hooks": frozen(getattr(tensor, "_backward_hooks", None)),
        "attributes": frozen(vars(tensor)),
    }


def digest(tensor: Tensor) -> str:
    """Of the bytes of a tensor."""
    held = tensor.detach().cpu().contiguous()
    return hashlib.sha256(held.flatten().view(torch.uint8).numpy().tobytes() if held.numel() else b"").hexdigest()


def of_thread() -> State:
    """What torch keeps for each thread; of the one that calls."""
    return {
        "thread: inference mode": torch.is_inference_mode_enabled(),
        "thread: gradients": torch.is_grad_enabled(),
        "thread: autocast": [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")],
        "thread: autocast's dtype": [torch.get_autocast_dtype(device) for device in ("cpu", "cuda")],
        "thread: autocast's cache": torch.is_autocast_cache_enabled(),
        "thread: hooks of saved tensors": torch._C._autograd._top_saved_tensors_default_hooks(True),
        "thread: saved tensors may have hooks": torch._C._autograd._saved_tensors_hooks_is_enabled(),
        "thread: function modes": torch._C._len_torch_function_stack(),
        "thread: dispatch modes": torch._C._len_torch_dispatch_stack(),
        "thread: default device": torch.get_default_device(),
        "thread: forward AD": torch._C._is_fwd_grad_enabled(),
        "thread: multithreaded backward": torch._C._is_multithreading_enabled(),
        "thread: anomaly detection": torch.is_anomaly_enabled(),
        "thread: numpy's errors": np.geterr(),
        "thread: decimal": repr(decimal.getcontext()),
    }


def of_process(*folders: Path) -> State:
    """Everything that is there once: settings, random state, functions, environment, logging, threads, files of
    `folders`.
    """
    return {**_of_torch(), **_of_chance(), **_of_functions(), **_of_python(), **_of_files(*folders)}


def _of_torch() -> State:
    backends = torch.backends
    flags = {
        "cudnn": (backends.cudnn, ("enabled", "benchmark", "benchmark_limit", "deterministic", "allow_tf32")),
        "cuda.matmul": (
            backends.cuda.matmul,
            ("allow_tf32", "allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"),
        ),
        "mkldnn": (backends.mkldnn, ("enabled", "deterministic", "allow_tf32")),
    }
    sdp = ("flash", "mem_efficient", "math", "cudnn")
    return {
        **{f"torch.{name}.{key}": getattr(of, key, None) for name, (of, keys) in flags.items() for key in keys},
        **{f"torch.sdp.{name}": getattr(backends.cuda, f"{name}_sdp_enabled")() for name in sdp},
        "torch: deterministic": torch.are_deterministic_algorithms_enabled(),
        "torch: deterministic, warnings": torch.is_deterministic_algorithms_warn_only_enabled(),
        "torch: deterministic, debug": torch.get_deterministic_debug_mode(),
        "torch: fill of empty tensors": torch.utils.deterministic.fill_uninitialized_memory,
        "torch: matmul precision": torch.get_float32_matmul_precision(),
        "torch: default dtype": torch.get_default_dtype(),
        "torch: threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch: always warn": torch.is_warn_always_enabled(),
        "torch: print options": dict(vars(torch._tensor_str.PRINT_OPTS)),
        "torch: overwrites on load": torch.__future__.get_overwrite_module_params_on_conversion(),
        "torch: hooks of all modules": [
            frozen(value)
            for name, value in sorted(vars(torch.nn.modules.module).items())
            if name.startswith("_global_")
        ],
    }


def _of_chance() -> State:
    """The state of everybody's random generators."""
    name, keys, *rest = np.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "random: torch": digest(torch.get_rng_state()),
        "random: torch on cards": list(map(digest, cuda)),
        "random: numpy": (name, keys.tobytes(), *rest),
        "random: random": hash(random.getstate()),
    }


def _of_functions() -> State:
    """The functions and classes of the host and of torch, and what is in their classes."""
    watched = {name for name in sys.modules if name in LIBRARIES or name.split(".")[0] in HOST}
    state: State = {MODULES: watched}
    for name in watched:
        module = sys.modules[name]
        for key, value in list(vars(module).items()):
            if isinstance(value, types.FunctionType | types.BuiltinFunctionType | type):
                state[f"{name}.{key}"] = Same(value)
            elif isinstance(value, bool | int | str):
                state[f"{name}.{key}"] = value
            if isinstance(value, type) and value.__module__ == name:
                own = {k: v for k, v in vars(value).items() if k not in COUNTED and not k.startswith("__abstract")}
                state |= {f"{name}.{key}.{k}": frozen(v, 0) for k, v in own.items()}
    for key in dir(Tensor):
        state[f"Tensor.{key}"] = Same(inspect.getattr_static(Tensor, key))
    return state


def _of_python() -> State:
    loggers = {"": logging.getLogger(), **logging.root.manager.loggerDict}
    here = {name: each for name, each in loggers.items() if isinstance(each, logging.Logger)}
    state: State = {
        "environment": dict(os.environ),
        "working folder": str(Path.cwd()),
        "sys.path": list(sys.path),
        "sys.meta_path": [Same(each) for each in sys.meta_path],
        "sys.excepthook": Same(sys.excepthook),
        "sys: recursion limit": sys.getrecursionlimit(),
        "sys: switch interval": sys.getswitchinterval(),
        "threading.excepthook": Same(threading.excepthook),
        "garbage collection": (gc.isenabled(), gc.get_threshold()),
        "warnings: filters": list(map(repr, warnings.filters)),
        "warnings: showwarning": Same(warnings.showwarning),
        "logging: disabled below": logging.root.manager.disable,
        THREADS: Counter(each.name for each in threading.enumerate() if not each.name.startswith(THREADS_OF_THE_HOST)),
        "signals": [
            (each.name, Same(signal.getsignal(each))) for each in signal.valid_signals() if hasattr(each, "name")
        ],
    }
    for name, logger in here.items():
        kept = (logger.level, logger.propagate, logger.disabled, [Same(handler) for handler in logger.handlers])
        if kept != (logging.NOTSET, True, False, []):  # as a library makes it when it is loaded
            state[f"logging: {name or 'root'}"] = kept
    if "matplotlib" in sys.modules:
        state["matplotlib: settings"] = dict(sys.modules["matplotlib"].rcParams)
    return state


def _of_files(*folders: Path) -> State:
    """The names in the machine's folder for temporary files, and in `folders`."""
    return {f"files in {folder}": sorted(folder.rglob("*")) for folder in (Path(tempfile.gettempdir()), *folders)}


def frozen(value: Any, depth: int = 6) -> Any:
    """What to compare `value` by: containers by what is in them, plain values by value, objects as the same object."""
    if isinstance(value, dict) and depth:
        return [(frozen(key, depth - 1), frozen(item, depth - 1)) for key, item in value.items()]
    if isinstance(value, list | tuple) and depth:
        return [frozen(item, depth - 1) for item in value]
    if isinstance(value, set | frozenset) and depth:
        return {frozen(item, depth - 1) for item in value}
    if isinstance(value, types.MethodType):
        return [Same(value.__func__), Same(value.__self__)]
    if value is None or isinstance(value, bool | int | float | str | bytes | torch.dtype | torch.device | type):
        return value
    return Same(value)


def differences(before: State, after: State) -> list[str]:
    """What differs, one line each, sorted. What modules define that were loaded meanwhile is no difference."""
    loaded = tuple(f"{name}." for name in after.get(MODULES, set()) - before.get(MODULES, set()))
    found = []
    for name in sorted((before.keys() | after.keys()) - {MODULES, THREADS}):
        if name not in before and not name.startswith(loaded):
            found.append(f"{name}: new: {_shown(after[name])}")
        elif name not in after:
            found.append(f"{name}: gone")
        elif name in before and before[name] != after[name]:
            found.append(f"{name}: {_shown(before[name])} -> {_shown(after[name])}")
    if left := after.get(THREADS, Counter()) - before.get(THREADS, Counter()):
        found.append(f"{THREADS}: new: {_shown(sorted(left.elements()))}")
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:100]} ... {text[-50:]}"
