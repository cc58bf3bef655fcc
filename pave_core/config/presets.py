"""Named settings: of the method, and of memory by the size of the card. Nodes, workflows and docs take them from here.

The values are those of papers and public code, where there are any; ABOUT has their sources. The published runs are
FLUX.1-dev's; most tune all weights, here a LoRA with the rank and learning rate of Pave-GRPO's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Literal

from ..errors import ConfigError, quoted
from .adapter import LoraConfig
from .combinations import as_text, settings_of
from .fields import from_shown
from .memory import Checkpointing, MemoryConfig
from .objective import PaveConfig
from .optimizer import OptimConfig
from .rollout import RolloutConfig
from .train import RunConfig, TrainConfig

CUSTOM = "custom"
"""The name that is shown where no preset is: the defaults, with what widgets say over them."""

_RELEASED = TrainConfig(lora=LoraConfig(targets="paper"))
_PLAIN = PaveConfig(segments=())

PRESETS: dict[str, TrainConfig] = {
    "pave (released code)": _RELEASED,
    "pave (paper's Algorithm 1)": replace(
        _RELEASED,
        rollout=RolloutConfig(exploration="trajectories"),
        pave=PaveConfig(updates_per_rollout=2, ratio="clip", kl_weight=0.001),
    ),
    "pave, half price": replace(_RELEASED, rollout=RolloutConfig(steps=8, branch_steps=(0, 1, 2, 3))),
    "fast": replace(_RELEASED, rollout=RolloutConfig(tail_solver="multistep", tail_steps=4)),
    "flow-grpo": replace(
        _RELEASED,
        rollout=RolloutConfig(
            steps=6, branch_steps=(0, 1, 2, 3, 4), group_size=24, eta=0.9, exploration="trajectories"
        ),
        pave=replace(_PLAIN, updates_per_rollout=2, ratio="clip"),
        optim=OptimConfig(learning_rate=3e-4, ema_decay=0.987),
    ),
    "dance-grpo": replace(
        _RELEASED,
        rollout=RolloutConfig(
            branch_steps=tuple(range(15)), eta=0.3, exploration="trajectories, one noise", kernel="dance"
        ),
        pave=replace(_PLAIN, updates_per_rollout=3, ratio="clip"),
    ),
    "mix-grpo": replace(
        _RELEASED,
        rollout=RolloutConfig(
            steps=25, branch_steps=(0, 1, 2, 3), eta=0.7, exploration="trajectories, one noise", window_every=25
        ),
        pave=replace(_PLAIN, updates_per_rollout=4, ratio="clip"),
    ),
    "ada-grpo": replace(
        _RELEASED,
        rollout=RolloutConfig(eta=0.7, candidates=10),
        pave=replace(_PLAIN, global_advantage=True),
    ),
    "grpo, no paving": replace(_RELEASED, pave=_PLAIN),
    "quick": TrainConfig(
        rollout=RolloutConfig(steps=4, branch_steps=(0, 1), group_size=8, batch_size=64),
        pave=PaveConfig(variance="matched"),  # of large steps it learns more: docs/BENCHMARKS.md
        lora=LoraConfig(rank=8, alpha=16, targets="attention + MLP"),
        optim=OptimConfig(learning_rate=7e-4),
        run=RunConfig(iterations=150, prompts_per_step=8, checkpoint_every=50),
    ),
}

RENAMED = {"paper": "pave (released code)"}
"""{what a graph or a prompt of an older version calls a preset: its name}; web/pave_presets.js has the same."""


@dataclass(frozen=True)
class About:
    """What docs say of a preset."""

    what: str
    source: str
    differs: str  # from what is published


ABOUT: dict[str, About] = {
    "pave (released code)": About(
        "Pave-GRPO as its authors' code runs it",
        "arXiv 2606.01636; github.com/Bujiazi/GRPO-Series, scripts/train_pavegrpo.sh and its LoRA mode",
        "The shipped script tunes all weights at 2e-6. No result is published for its LoRA mode.",
    ),
    "pave (paper's Algorithm 1)": About(
        "Pave-GRPO as its paper writes it: trajectories, a clipped ratio, a KL term",
        "arXiv 2606.01636, Algorithm 1 on the project page",
        "Clip range, KL weight and the number of updates are not published: clip_range is Flow-GRPO's, 2 updates a "
        "rollout the least at which a clip acts, kl_weight Flow-GRPO's 0.01 to 0.04 times a |dt| of about 0.03. As it "
        "is written residual would be image, which taught the bundled model far less than noise: docs/BENCHMARKS.md.",
    ),
    "pave, half price": About(
        "half the denoising steps",
        "the command-line defaults of github.com/Bujiazi/GRPO-Series",
        "",
    ),
    "fast": About(
        "images finished in a quarter of the steps by a solver of second order",
        "this pack; after MixGRPO-Flash (arXiv 2507.21802)",
        "Finishing the best and worst in full (contrast) would cost more than it saves; see docs/BENCHMARKS.md.",
    ),
    "flow-grpo": About(
        "full trajectories of few steps, a clipped ratio, running means of the weights",
        "arXiv 2505.05470; github.com/yifan123/flow_grpo, pickscore_flux of config/grpo.py and scripts/train_flux.py",
        "A LoRA there too. It splits 48 groups between 2 updates, here each update uses all images; it divides by the "
        "spread of all rewards, here by each group's; its running mean is updated at every 8th step (0.9); it has no "
        "set number of iterations. With SD3.5 it uses 10 steps, eta 0.7 and a KL weight of 0.01 to 0.04.",
    ),
    "dance-grpo": About(
        "trajectories from one noise, with DanceGRPO's kernel",
        "arXiv 2505.07818; github.com/XueZeyue/DanceGRPO, scripts/finetune/finetune_flux_grpo.sh",
        "It tunes all weights at 1e-5, at 720 x 720; trains on 60 % of an image's noisy steps, drawn at random, here "
        "on all; and splits 12 images between 3 updates, here each update uses all.",
    ),
    "mix-grpo": About(
        "a window of four noisy steps that slides along the schedule",
        "arXiv 2507.21802; github.com/Tencent-Hunyuan/MixGRPO, scripts/finetune/finetune_flux_grpo_MixGRPO.sh",
        "It tunes all weights at 1e-5, at 720 x 720, and splits 12 images between 4 updates, here each update uses "
        "all. Set Pave Reward Mix to within group, as it does.",
    ),
    "ada-grpo": About(
        "prompts chosen by how well the model does, and an advantage across prompts",
        "arXiv 2606.06828; github.com/Bujiazi/GRPO-Series, scripts/train_adagrpo.sh",
        "The shipped script tunes all weights at 2e-6.",
    ),
    "grpo, no paving": About("the released code without its contribution: the baseline", "arXiv 2606.01636", ""),
    "quick": About("minutes, for the bundled model", "this pack", ""),
}


def preset_config(name: str) -> TrainConfig:
    """The settings of a preset, by its name or an older one; those of CUSTOM are the defaults.

    ConfigError for a name that is not known.
    """
    known = {CUSTOM: TrainConfig(), **PRESETS, **{old: PRESETS[new] for old, new in RENAMED.items()}}
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"preset: {quoted(name)} is not known: choose one of {', '.join((CUSTOM, *PRESETS))}")
    return known[name]


def with_values(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """A config with {widget: value} over it. ConfigError, with the field, for a wrong value."""
    whole = settings_of(config) | dict(values)
    return TrainConfig(**{name: from_shown(type(part), whole) for name, part in vars(config).items()})


def changes(config: Any, since: Any) -> dict[str, tuple[Any, Any]]:
    """{widget: (its value, its value in `since`)} of the settings in which two configs differ."""
    now, then = settings_of(config), settings_of(since)
    return {name: (value, then[name]) for name, value in now.items() if value != then[name]}


def not_default(config: TrainConfig) -> str:
    """The settings of the method that are not the defaults, in words: "steps 8; kernel cps", or "none"."""
    parts = (replace(config.rollout, batch_size=RolloutConfig().batch_size), config.pave, config.lora, config.optim)
    found = [(name, now) for part in parts for name, (now, _) in changes(part, type(part)()).items()]
    return "; ".join(f"{name} {as_text(value)}" for name, value in found) or "none"


WeightDtype = Literal["default", "fp8_e4m3fn"]
FLUX_GB = 24.0
"""The weights of FLUX.1-dev in bf16, for which a preset's share of offloaded weights is meant."""


@dataclass(frozen=True)
class MemoryPreset:
    """What trains on a card at 512 x 512. The group size, and what is learnt but for the rank, are the paper's."""

    weights: float  # GB of the model's weights on the card at most; the others are offloaded
    checkpointing: Checkpointing
    recompute_chains: bool
    batch_size: int
    decode_batch: int
    rank: int

    def weight_dtype(self, model_gb: float) -> WeightDtype:
        """The loader's weight_dtype for a model whose weights are so many GB in 16 bits."""
        return "default" if model_gb <= self.weights else "fp8_e4m3fn"

    def memory(self, weights_gb: float = FLUX_GB / 2) -> MemoryConfig:
        """The settings for a model whose weights are so many GB as they are loaded."""
        surplus = max(0.0, 1 - self.weights / weights_gb)
        offload = ceil(round(20 * surplus, 6)) / 20  # the widget's step is 0.05
        return MemoryConfig(self.checkpointing, self.recompute_chains, self.decode_batch, offload)


MEMORY_PRESETS: dict[str, MemoryPreset] = {
    "8 GB": MemoryPreset(3.5, "on", recompute_chains=True, batch_size=1, decode_batch=1, rank=8),
    "12 GB": MemoryPreset(6.0, "on", recompute_chains=False, batch_size=1, decode_batch=1, rank=16),
    "16 GB": MemoryPreset(10.0, "on", recompute_chains=False, batch_size=2, decode_batch=1, rank=16),
    "24 GB": MemoryPreset(14.0, "auto", recompute_chains=False, batch_size=4, decode_batch=4, rank=64),
}
"""By the memory of the card."""
