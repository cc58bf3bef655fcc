"""The door of the nodes: every value that enters one is checked against its schema, when a graph is queued and when the
node runs.

The host checks less than a schema says: no literal on a socket, no range of a value that came over a wire or of an
input that validate_inputs names, no NaN; and it converts null, lists and objects to text without a word. guarded()
makes a node that checks them all.

An input that the node's own validate_inputs names is left to that one but for its type, since its message says more.
"""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any

import comfy.sd
from comfy.model_patcher import ModelPatcher
from comfy_api.internal import first_real_override
from comfy_api.latest import io
from torch import Tensor

from ...pave_core.config.adapter import LoraConfig
from ...pave_core.config.fields import check_text
from ...pave_core.config.memory import MemoryConfig
from ...pave_core.config.objective import PaveConfig
from ...pave_core.config.optimizer import OptimConfig
from ...pave_core.errors import ConfigError, quoted
from ...pave_core.evaluation.guard import GuardSettings
from ...pave_core.rollout.prompts import PromptSet
from ...pave_core.scoring.mix import Scores
from .graphs import queue
from .graphs.expansion import Loop
from .policy.pipeline import PipelineSettings
from .policy.settings import PolicySettings, RolloutSettings
from .steps.tickets import Advantages, Candidates, Sampled, State

Node = type[io.ComfyNode]

MAX_TEXT, MAX_LINE = 1_000_000, 10_000
"""The most characters of a text of many lines, such as ten thousand prompts of a sentence each, and of any other."""
MAX_NUMBER = 1e300
"""The largest number that is taken for a text, such as 3 for the segments "3"."""
MAX_STEPS = 200
"""The most denoising steps of a schedule that comes over a wire."""


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _is_reward(value: Any) -> bool:
    return callable(value) and isinstance(getattr(value, "name", None), str)


def _is_lora(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(weight, Tensor) for weight in value.values())


def _is_image(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4 and value.numel() > 0 and value.shape[-1] >= 3


def _is_schedule(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 1 and 2 < len(value) <= MAX_STEPS + 1


SOCKETS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "MODEL": (_is(ModelPatcher), "a MODEL, from a loader of diffusion models"),
    "CLIP": (_is(comfy.sd.CLIP), "a CLIP, from a loader of text encoders"),
    "VAE": (_is(comfy.sd.VAE), "a VAE, from a loader of VAEs"),
    "IMAGE": (_is_image, "a batch of RGB images (N, height, width, 3), at least one"),
    "SIGMAS": (_is_schedule, f"a schedule of 2 to {MAX_STEPS} steps, from a scheduler node"),
    "LORA_MODEL": (_is_lora, "the LoRA of a training node"),
    "PAVE_POLICY": (_is(PolicySettings, PipelineSettings), "the output of Pave Policy or Pave Diffusers Policy"),
    "PAVE_PROMPTS": (_is(PromptSet), "the output of Pave Prompts"),
    "PAVE_REWARD": (_is_reward, "the output of a reward node"),
    "PAVE_LORA_SETTINGS": (_is(LoraConfig), "the output of Pave LoRA Settings"),
    "PAVE_ROLLOUT_SETTINGS": (_is(RolloutSettings), "the output of Pave Rollout Settings"),
    "PAVE_OBJECTIVE": (_is(PaveConfig), "the output of Pave Objective"),
    "PAVE_OPTIMIZER": (_is(OptimConfig), "the output of Pave Optimizer"),
    "PAVE_MEMORY_SETTINGS": (_is(MemoryConfig), "the output of Pave Memory"),
    "PAVE_STATE": (_is(State), "the state of a Pave Begin, as the node before gives it"),
    "PAVE_ROLLOUT": (_is(Sampled), "the rollout of Pave Rollout"),
    "PAVE_SCORES": (_is(Scores), "the scores of Pave Score"),
    "PAVE_ADVANTAGES": (_is(Advantages), "the advantages of Pave Advantage"),
    "PAVE_CANDIDATES": (_is(Candidates), "the output of Pave Candidates"),
    "PAVE_GUARD": (_is(GuardSettings), "the output of Pave Guard"),
    "PAVE_LOOP": (_is(Loop), "the loop of a Pave Loop Begin"),
}
"""{type of a wire: (whether a value is of it, what to connect)}."""


def guarded(node: Node) -> Node:
    """`node` with a check of everything that enters it; `node` itself if nothing does."""
    inputs = node.define_schema().inputs
    if not inputs:
        return node
    inner = first_real_override(node, "validate_inputs")
    own = [] if inner is None else list(inspect.signature(inner).parameters)
    execute = node.execute.__func__  # pyright: ignore[reportFunctionMemberAccess]
    by_place = list(inspect.signature(node.execute).parameters)

    class Guarded(node):
        @classmethod
        def execute(cls, *places: Any, **named: Any) -> io.NodeOutput:
            values = dict(zip(by_place, places, strict=False)) | named
            return execute(cls, **entered(node.define_schema(), own, values))

        @classmethod
        def validate_inputs(cls, *places: Any, **named: Any) -> bool | str:
            """What the host hands over depends on what it is asked for; the posted graph has it all."""
            posted = queue.posted()
            if posted is None:
                return True if inner is None else inner(*places, **named)
            try:
                values = posted_values(node.define_schema(), own, posted)
            except ConfigError as error:
                return str(error)
            return True if inner is None else inner(**{name: values[name] for name in own if name in values})

    Guarded.__name__, Guarded.__qualname__ = node.__name__, node.__qualname__
    Guarded.__module__, Guarded.__doc__ = node.__module__, node.__doc__
    named = _named(inputs, own)
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ("cls", *named)]
    # The host reads from the signature which inputs it need not check, calls the function only where one of these is
    # there, and repeats the message for each.
    Guarded.validate_inputs.__func__.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return Guarded


def _named(inputs: Iterable[Any], own: list[str]) -> list[str]:
    """The one input that the host hands to validate_inputs: one that every graph has.

    If the node's own check names a drop-down, it is that one: the host would refuse its value before.
    """
    there = [each for each in inputs if not each.optional]
    best = sorted(there, key=lambda each: (each.id not in own, not isinstance(each, io.Combo.Input)))
    return [each.id for each in best[:1]]


def posted_values(schema: io.Schema, own: list[str], posted: Mapping[str, Any]) -> dict[str, Any]:
    """{input: value} of the literals in a posted node, as the node will get them. ConfigError for the first wrong one.

    posted: its inputs as they were posted, before the host has converted them; wires are left out.
    """
    found = {}
    for each in schema.inputs:
        if each.id not in posted or isinstance(posted[each.id], list):
            continue
        value = posted[each.id]
        if isinstance(value, dict) and "__value__" in value:  # how the page writes a list that is no wire
            value = value["__value__"]
        if value is None and each.optional:
            continue
        if each.get_io_type() in SOCKETS:
            raise ConfigError(f"{each.id}: {quoted(value)} is no wire: connect {SOCKETS[each.get_io_type()][1]}")
        found[each.id] = _widget(each, value, each.id in own)
    return found


def entered(schema: io.Schema, own: list[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, with which a node is to run, as its widgets hold them. ConfigError for the first wrong one.

    Of a node that takes lists (is_input_list), each is a list of values.
    """
    found = dict(values)
    for each in schema.inputs:
        value = values.get(each.id)
        raw = (getattr(each, "extra_dict", None) or {}).get("rawLink")  # a wire's name, in place of what comes over it
        if raw or (value is None and each.optional):
            continue
        if not schema.is_input_list:
            found[each.id] = _value(each, value, own)
        elif value or not each.optional:
            if not value:
                raise ConfigError(f"{each.id}: nothing came over the wire: connect an output that gives something")
            found[each.id] = [_value(each, one, own) for one in value]
    return found


def _value(each: Any, value: Any, own: list[str]) -> Any:
    if each.get_io_type() not in SOCKETS:
        return _widget(each, value, each.id in own)
    is_of, what = SOCKETS[each.get_io_type()]
    if not is_of(value):
        came = "nothing" if value is None else f"a {type(value).__name__}"
        raise ConfigError(f"{each.id}: {came} came over the wire: connect {what}")
    return value


def _widget(each: Any, value: Any, leave_options: bool) -> Any:
    """The value of a widget as its kind. ConfigError for one that is not of the kind, in the range or on offer."""
    kind = each.get_io_type()
    if isinstance(each, io.MultiType.Input):
        if not isinstance(value, Real | Tensor | list | tuple):
            raise ConfigError(f"{each.id}: {quoted(value)} is no number: connect an output that gives numbers")
    elif kind == "INT":
        return _within(each, _number(each.id, value, int))
    elif kind == "FLOAT":
        return _within(each, _number(each.id, value, float))
    elif kind == "BOOLEAN":
        if not isinstance(value, bool):
            raise ConfigError(f"{each.id}: {quoted(value)} is not true or false: switch it on or off")
    elif kind == "STRING":
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_NUMBER:
            value = str(value)
        check_text(each.id, value, MAX_TEXT if each.multiline else MAX_LINE)
    elif kind == "COMBO":
        if not isinstance(value, str):
            raise ConfigError(f"{each.id}: {quoted(value)} is not a text: choose one of the list")
        check_text(each.id, value, MAX_LINE)
        if not leave_options and value not in each.options:
            raise ConfigError(f"{each.id}: {quoted(value)} is not known: choose one of {', '.join(each.options)}")
    return value


def _number(name: str, value: Any, kind: type) -> Any:
    """A number, or a text of one, as an int or a float. ConfigError for anything else, and for what is not finite."""
    number: Any = math.nan
    if isinstance(value, str | Real) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):  # no number, or one that is beyond all floats
            number = kind(value)
    if (isinstance(number, float) and not math.isfinite(number)) or (not isinstance(value, str) and number != value):
        raise ConfigError(
            f"{name}: {quoted(value)} is not {'a whole number' if kind is int else 'a number'}: write one"
        )
    return number


def _within(each: Any, number: float) -> float:
    if each.min is not None and number < each.min:
        raise ConfigError(f"{each.id}: {quoted(number)} is below {each.min}: raise it")
    if each.max is not None and number > each.max:
        raise ConfigError(f"{each.id}: {quoted(number)} is above {each.max}, the largest allowed: lower it")
    return number
