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
from ....pave_core.training.step import NOT_CHOSEN, NOT_NARROWED
from .checks import check_crowd
from .graph import CANDIDATES, CHOICE, CONTRAST, Graph, descendants, sources

WIRED = {
    "rollout": ("PaveRolloutSettings", "rollout"),
    "objective": ("PaveObjective", "pave"),
    "optimizer": ("PaveOptimizer", "optim"),
}
"""{input of a training node: (the node that gives it, the part of TrainConfig that it is)}."""
DRAWN = {
    "candidates": (
        {CANDIDATES, CHOICE},
        NOT_CHOSEN,
        "there is no choice to make, as candidates is 0: set it in Pave Rollout Settings (AdaGRPO uses 10), or take "
        "Pave Candidates out",
    ),
    "contrast": (
        {CONTRAST},
        NOT_NARROWED,
        "it is 0, so that all images are trained on: set it in Pave Rollout Settings, or take Pave Contrast out",
    ),
}
"""{setting of the rollout: (the step nodes that do it, what to say without them, and of them where it is 0)}."""


def check_part(graph: Graph, node: str) -> None:
    """ConfigError where the widgets of a settings node hold a wrong value, or some that exclude each other."""
    (part,) = (part for kind, part in WIRED.values() if kind == graph[node]["class_type"])
    _part(graph, node, part)


def check_train(graph: Graph, node: str) -> None:
    """The same of Pave Train, which has all settings on it."""
    _check_together({part: _part(graph, node, part) for part in ("rollout", "pave", "optim", "run")})


def check_wired(graph: Graph, node: str) -> None:
    """The same of a node whose settings are on wires; what is wrong within a settings node, that node says."""
    parts = _wired(graph, node)
    _check_together(parts | {"run": _part(graph, node, "run", iterations=1)})  # where it has no iterations


def check_drawn(graph: Graph, begin: str) -> None:
    """The same of Pave Begin; and the step nodes after it are to do what the settings say."""
    check_crowd(graph, begin)
    check_wired(graph, begin)
    parts = _wired(graph, begin)
    if parts["optim"] is not None and parts["optim"].step == "per_step":
        raise ConfigError(
            "optimizer_step: per_step cannot be built from step nodes: set it to accumulated in Pave Optimizer, or use "
            "Pave Train"
        )
    if parts["rollout"] is None:
        return
    drawn = {graph[node]["class_type"] for node in descendants(graph, begin)}
    for setting, (kinds, missing, idle) in DRAWN.items():
        value = getattr(parts["rollout"], setting)
        if value and not kinds <= drawn:
            raise ConfigError(f"{setting}: {missing.format(value)}")
        if not value and kinds & drawn:
            raise ConfigError(f"{setting}: {idle}")


def _wired(graph: Graph, node: str) -> dict[str, Any]:
    """{part: its settings} of those on wires; None where they are not known yet, or wrong in themselves."""
    wires = {name: source for name, source, _ in sources(graph[node])}
    found: dict[str, Any] = {}
    for name, (kind, part) in WIRED.items():
        found[part] = getattr(TrainConfig(), part)
        if name in wires:
            ours = graph.get(wires[name], {}).get("class_type") == kind
            try:
                found[part] = _part(graph, wires[name], part) if ours else None
            except ConfigError:
                found[part] = None
    return found


def _part(graph: Graph, node: str, part: str, **beside: Any) -> Any:
    """One part of TrainConfig from the widgets of a node; None where one of them, or sigmas, is on a wire.

    beside: values of widgets that the node may not have.
    """
    inputs = graph[node]["inputs"]
    wired = {name for name, _, _ in sources(graph[node])}
    names = widgets_of(type(getattr(TrainConfig(), part)))
    if wired & {"preset", "sigmas", *names}:
        return None
    base = getattr(preset_config(inputs.get("preset", CUSTOM)), part)
    values = {name: inputs[name] for name in names if name in inputs}
    return from_shown(type(base), shown(base) | beside | values)


def _check_together(parts: Mapping[str, Any]) -> None:
    if all(part is not None for part in parts.values()):
        TrainConfig(**parts)
