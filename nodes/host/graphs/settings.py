"""The settings in a graph: those of a training node, on it or on the settings nodes that are wired to it.

Settings that exclude each other are refused before anything runs. What comes over a wire from elsewhere is not known
until then, and is checked when the node runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....pave_core.config.fields import from_shown, shown, widgets_of
from ....pave_core.config.presets import CUSTOM, preset_config
from ....pave_core.config.train import TrainConfig
from ....pave_core.errors import ConfigError
from .graph import Graph, sources

WIRED = {
    "rollout": ("PaveRolloutSettings", "rollout"),
    "objective": ("PaveObjective", "pave"),
    "optimizer": ("PaveOptimizer", "optim"),
}
"""{input of a training node: (the node that gives it, the part of TrainConfig that it is)}."""


def check_part(graph: Graph, node: str) -> None:
    """ConfigError where the widgets of a settings node hold a wrong value, or some that exclude each other."""
    (part,) = (part for kind, part in WIRED.values() if kind == graph[node]["class_type"])
    _part(graph, node, part)


def check_train(graph: Graph, node: str) -> None:
    """The same of Pave Train, which has all settings on it."""
    _check_together({part: _part(graph, node, part) for part in ("rollout", "pave", "optim", "run")})


def check_wired(graph: Graph, node: str) -> None:
    """The same of a node whose settings are on wires; what is wrong within a settings node, that node says."""
    wires = {name: source for name, source, _ in sources(graph[node])}
    parts = {"run": _part(graph, node, "run")}
    for name, (kind, part) in WIRED.items():
        if name not in wires:
            continue  # the defaults
        if graph.get(wires[name], {}).get("class_type") != kind:
            return  # the settings of a file, or of a node that is not ours
        try:
            parts[part] = _part(graph, wires[name], part)
        except ConfigError:
            return
    _check_together(parts)


def _part(graph: Graph, node: str, part: str) -> Any:
    """One part of TrainConfig from the widgets of a node; None where one of them, or sigmas, is on a wire."""
    inputs = graph[node]["inputs"]
    wired = {name for name, _, _ in sources(graph[node])}
    names = widgets_of(type(getattr(TrainConfig(), part)))
    if wired & {"preset", "sigmas", *names}:
        return None
    base = getattr(preset_config(inputs.get("preset", CUSTOM)), part)
    return from_shown(type(base), shown(base) | {name: inputs[name] for name in names if name in inputs})


def _check_together(parts: Mapping[str, Any]) -> None:
    if all(part is not None for part in parts.values()):
        TrainConfig(**parts)
