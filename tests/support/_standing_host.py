"""The host in the test's own process with one MODEL, CLIP and VAE that stay, and faults that can be set.

What is broken is broken from outside: by a hook on a layer of MODEL, as packs put there, or by a reward, as packs
bring. Cancel is pressed at the moments at which the host or we look for it.
"""

from __future__ import annotations

import copy
import importlib
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import _machine_state
from _host_fixtures import load_stock
from _training_graphs import Graph, node

PHASES = {
    "finish": "final evaluation",
    "encode_all": "encoding",
    "check_reward": "reward check",
    "preflight": "preflight",
    "check_gradient": "gradient check",
    "evaluate": "evaluation",
    "again": "update, computed again",
    "accumulate": "update",
    "sample": "rollout",
    "score": "scoring",
    "begin": "beginning",
}
"""{function of ours: what a run does while it is on the stack}; the first that is there counts."""
LAYER = "joint_blocks.1.x_block.mlp"
"""The layer of the bundled model at which the network is made to fail: in the middle of a block."""
SETTLING = 3.0
"""Seconds that a thread may take to end."""


@dataclass
class Fault:
    """What goes wrong: at a place ("network", "reward", "cancel"), in a phase, at the n-th moment there."""

    place: str
    phase: str
    error: Exception | None = None  # None: Cancel is pressed
    at: int = 1
    lasting: bool = False  # whether it happens again and again from then on
    happened: int = 0


class Machine:
    """The host with one MODEL, CLIP and VAE, one thread that runs graphs, and a fault that can be set."""

    def __init__(self, host: Any, stock: Any, root: Path) -> None:
        self.host, self.stock = host, stock
        self.parts = {"MODEL": stock.model, "CLIP": stock.clip, "VAE": stock.vae}
        self.fault: Fault | None = None
        self.moments: Counter[tuple[str, str]] = Counter()
        self.message = ""
        self._root = str(root)
        self._thread = ThreadPoolExecutor(1, "runs graphs")
        cache = {"lru": 0, "ram": 16.0, "ram_inactive": 16.0}
        classic = host.execution.CacheType.CLASSIC
        self._executor = host.execution.PromptExecutor(host.server, cache_type=classic, cache_args=cache)

    def inside(self, function: Callable[..., Any], *args: Any) -> Any:
        """function(*args) in the thread that runs graphs."""
        return self._thread.submit(function, *args).result()

    def state(self) -> _machine_state.State:
        """Everything that is to stay."""
        parts, thread = _machine_state.of_parts(self.parts), self.inside(_machine_state.of_thread)
        return {**parts, **thread, **_machine_state.of_process(self.host.base / "temp")}

    def run(self, graph: Graph, fault: Fault | None = None) -> str:
        """Run `graph` to its end: "success", "error" or "interrupted"; then .message and .moments tell more."""
        self.fault, self.moments = fault, Counter()
        outputs = [name for name, each in graph.items() if self._is_output(each["class_type"])]
        queued = copy.deepcopy(graph)  # the host notes in it what has changed since the last time
        self.inside(self._executor.execute, queued, uuid.uuid4().hex, {}, outputs)
        self.fault = None
        kind, data = self._executor.status_messages[-1]
        self.message = data.get("exception_message", "")
        return kind.removeprefix("execution_")

    def changed_by(self, graph: Graph, fault: Fault | None = None) -> tuple[str, list[str]]:
        """How `graph` ended, and what it has changed for good."""
        before = self.state()
        ended = self.run(graph, fault)
        until = time.monotonic() + SETTLING
        while (found := _machine_state.differences(before, self.state())) and time.monotonic() < until:
            time.sleep(0.2)
        return ended, found

    def picture(self) -> bytes:
        """What the stock KSampler and VAEDecode make with the parts."""

        def made() -> Tensor:
            call, clip = self.stock.call, self.stock.clip
            (cond,) = call("CLIPTextEncode", clip=clip, text="a red circle on a dark background")
            latent = self.stock.sample(self.stock.model, cond, seed=7, cfg=1.5)
            return call("VAEDecode", vae=self.stock.vae, samples={"samples": latent})[0]

        return self.inside(made).numpy().tobytes()

    def trained(self, graph: Graph) -> str:
        """The digest of the LoRA that a graph trains."""
        assert self.run(graph) == "success", self.message
        loras = (self.host.base / "output" / "loras" / "pave").glob("*.safetensors")
        newest = max(loras, key=lambda file: file.stat().st_mtime_ns)
        return _digest_of(load_file(newest))

    def of_other_nodes(self) -> dict[str, str]:
        """What stock nodes and a training of ours make with the parts now: digests of pictures and LoRAs."""
        call, sample, digest = self.stock.call, self.stock.sample, _machine_state.digest

        def made() -> dict[str, str]:
            (cond,) = call("CLIPTextEncode", clip=self.stock.clip, text="a blue star")
            (noisy,) = call(
                "LoraLoaderModelOnly", model=self.stock.model, lora_name="other.safetensors", strength_model=1.0
            )
            specs = self.node("TrainLoraNode", training_dtype="bf16", lora_dtype="fp32", steps=2, rank=2)["inputs"]
            latents = [{"samples": torch.full((1, 16, 8, 8), value)} for value in (0.5, 1.0)]
            inputs = {"model": [self.stock.model], "latents": latents, "positive": [cond, cond]}
            torch.manual_seed(1)
            trained = call("TrainLoraNode", **{name: [value] for name, value in specs.items()} | inputs)
            lora = next(each for each in trained if isinstance(each, dict) and len(each) > 1)
            return {
                "KSampler": digest(sample(self.stock.model, cond, seed=7)),
                "KSampler with Load LoRA": digest(sample(noisy, cond, seed=7)),
                "Train LoRA": _digest_of(lora),
                "KSampler after Train LoRA": digest(sample(self.stock.model, cond, seed=7)),
            }

        return self.inside(made)

    def pass_by(self, place: str) -> None:
        """A moment at which something may go wrong."""
        here = (place, self._phase())
        self.moments[here] += 1
        fault = self.fault
        if fault is None or here != (fault.place, fault.phase) or self.moments[here] < fault.at:
            return
        if fault.happened and not fault.lasting:
            return
        fault.happened += 1
        if fault.error is not None:
            raise fault.error
        self.host.nodes.interrupt_processing()

    def node(self, class_type: str, **inputs: Any) -> dict[str, Any]:
        """A node whose other widgets are at their defaults."""
        known = self.host.nodes.NODE_CLASS_MAPPINGS[class_type].INPUT_TYPES()
        widgets = {**known["required"], **known.get("optional", {})}
        defaults = {name: spec[1]["default"] for name, spec in widgets.items() if "default" in (*spec, {})[1]}
        return node(class_type, **defaults | inputs)

    def _is_output(self, class_type: str) -> bool:
        return bool(getattr(self.host.nodes.NODE_CLASS_MAPPINGS[class_type], "OUTPUT_NODE", False))

    def _phase(self) -> str:
        functions, frame = set(), sys._getframe()
        while frame is not None:
            if frame.f_code.co_filename.startswith(self._root):
                functions.add(frame.f_code.co_name)
            frame = frame.f_back
        return next((phase for function, phase in PHASES.items() if function in functions), "between nodes")


def _digest_of(lora: dict[str, Tensor]) -> str:
    return _machine_state.digest(torch.cat([lora[name].detach().float().flatten() for name in sorted(lora)]))


class Brightness:
    """A reward as another pack would bring it."""

    name = "brightness"

    def __init__(self, pass_by: Callable[[str], None]) -> None:
        self._pass_by = pass_by

    def __call__(self, images: Tensor, prompts: list[str]) -> Tensor:
        self._pass_by("reward")
        return images.mean((1, 2, 3))


@contextmanager
def standing(host: Any, modules: Any, root: Path, temp: Path) -> Iterator[Machine]:
    """The host after it has made a picture, with nodes that give this test's parts and reward.

    temp: the machine's folder for temporary files meanwhile, since other programs write into its own.
    """
    import comfy.model_management as management

    for library in ("matplotlib", "torch.utils.tensorboard"):  # what loading them changes is theirs, and not a run's
        importlib.import_module(library)
    stock = load_stock(host, modules)
    made = Machine(host, stock, root)
    reward = Brightness(made.pass_by)

    class Parts:
        RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL", "CLIP", "VAE"), "give", "test"
        INPUT_TYPES = classmethod(lambda cls: {"required": {}})
        IS_CHANGED = classmethod(lambda cls: float("nan"))  # so that nothing that hangs on them is taken from the cache
        give = staticmethod(lambda: (stock.model, stock.clip, stock.vae))

    class Reward:
        RETURN_TYPES, FUNCTION, CATEGORY = ("PAVE_REWARD",), "give", "test"
        INPUT_TYPES = classmethod(lambda cls: {"required": {}})
        give = staticmethod(lambda: (reward,))

    looks_for_cancel = management.throw_exception_if_processing_interrupted

    def looked() -> None:
        made.pass_by("cancel")
        looks_for_cancel()

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(host.nodes.NODE_CLASS_MAPPINGS, "TestParts", Parts)
        patch.setitem(host.nodes.NODE_CLASS_MAPPINGS, "TestReward", Reward)
        patch.setattr(management, "throw_exception_if_processing_interrupted", looked)
        patch.setattr(tempfile, "tempdir", str(temp))
        layer = stock.model.model.diffusion_model.get_submodule(LAYER)
        hook = layer.register_forward_pre_hook(lambda *_: made.pass_by("network"))
        up, down = (f"diffusion_model.{LAYER}.fc1.lora_{name}.weight" for name in "BA")
        other = {down: torch.full((2, 128), 0.1), up: torch.full((512, 2), 0.1)}
        save_file(other, host.base / "models" / "loras" / "other.safetensors")
        made.picture()
        yield made
        hook.remove()
