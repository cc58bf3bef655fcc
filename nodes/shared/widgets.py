"""The widgets of settings, made from the metadata of each setting's field (pave_core/config/fields.py)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...pave_core.config.adapter import LoraConfig
from ...pave_core.config.fields import Shown, widgets_of
from ...pave_core.config.memory import MemoryConfig
from ...pave_core.config.objective import PaveConfig
from ...pave_core.config.optimizer import OptimConfig
from ...pave_core.config.rollout import RolloutConfig
from ...pave_core.config.train import RunConfig
from ...pave_core.evaluation.guard import GuardConfig
from ...pave_core.runs.settings import NO_RESUME, RunSettings
from ..host import folders
from ..host.policy.settings import Guidance, Picture
from .schema import advanced

CONFIGS = (
    *(RunConfig, LoraConfig, RolloutConfig, PaveConfig, OptimConfig, MemoryConfig),
    *(Picture, Guidance, RunSettings, GuardConfig),
)
SHOWN: dict[str, Shown] = {name: widget for config in CONFIGS for name, widget in widgets_of(config).items()}

ADDED_LATER = (
    *("check_reward", "check_gradient", "frames"),
    *("exploration", "kernel", "window_every", "window_stride", "tail_solver", "tail_steps", "coarser_tails"),
    *("contrast", "candidates"),
    *("variance", "residual", "updates_per_rollout", "ratio", "clip_range", "max_divergence"),
    *("kl_weight", "step_weights"),
    *("global_advantage", "ema_decay"),
    "sample_ahead",
)
"""Widgets that graphs saved by an older version do not have, in the order in which they were added.

They are optional, and come last on their nodes: a saved graph has its values by place.
"""


def names_of(config: type) -> tuple[str, ...]:
    """The names of the widgets of a config, in the order of its fields."""
    return tuple(widgets_of(config))


def widgets(*names: str, optional: bool = False) -> list[Any]:
    """New inputs for the widgets of these names, in this order but for those that were added later.

    optional: whether all are: those that one node alone was given later, which come last there.
    """
    in_order = sorted(names, key=lambda name: ADDED_LATER.index(name) if name in ADDED_LATER else -1)
    return [_input(name, SHOWN[name], optional or name in ADDED_LATER) for name in in_order]


def folded(inputs: list[Any], first: tuple[str, ...]) -> list[Any]:
    """The same inputs; all but the `first` are marked as those that hosts may fold away."""
    return [each if each.id in first else advanced(each) for each in inputs]


def _input(name: str, widget: Shown, optional: bool) -> Any:
    """The V3 input of a setting. Its kind follows from the options or the type of the default."""
    said, default = widget.setting, widget.default
    shared: dict[str, Any] = {"default": default, "tooltip": said.help, "optional": optional}
    numbers: dict[str, Any] = {"min": said.low, "max": said.high, "step": said.step}
    if name == "resume":
        made = io.Combo.Input(name, options=[NO_RESUME, *folders.resumable_runs()], **shared)
    elif name == "seed":
        made = io.Int.Input(name, control_after_generate=False, **shared, min=said.low, max=said.high)  # pyright: ignore
    elif said.options:
        made = io.Combo.Input(name, options=list(said.options), **shared)
    elif isinstance(default, bool):
        made = io.Boolean.Input(name, **shared)
    elif isinstance(default, int):
        made = io.Int.Input(name, **shared, **numbers)
    elif isinstance(default, float):
        made = io.Float.Input(name, **shared, **numbers)
    else:
        made = io.String.Input(name, **shared)
    return advanced(made) if said.expert else made
