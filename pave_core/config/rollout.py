"""The settings of a rollout: T, K, G and eta of the method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import ConfigError
from .combinations import check_combinations
from .fields import check, joined, setting

Exploration = Literal["branches", "trajectories", "trajectories, one noise"]
Kernel = Literal["mar", "cps", "dance"]
TailSolver = Literal["euler", "multistep"]


@dataclass(frozen=True)
class RolloutConfig:
    """How images are sampled in a training step. The defaults are the paper's."""

    steps: int = setting(
        16,
        "Time grows with it: the denoising steps T of each image that is drawn while training. Fewer than you generate "
        "with are enough, 8 to 16, since the loss decomposes them into finer ones.",
        low=2,
        high=200,
        remedy="a branch step and the step after it are needed; the paper uses 16",
    )
    branch_steps: tuple[int, ...] = setting(
        (0, 2, 4, 6),
        "What may change: early steps vary the layout, later ones details. Each adds a group of images to every "
        "step, so that half as many take half the time. The list K of denoising steps that add noise, counted from "
        "0; the last step cannot be one.",
        most=64,
    )
    group_size: int = setting(
        12,
        "Time grows with it; 8 to 12 tell better from worse surely enough. G: the images that are compared with each "
        "other. A training step draws prompts_per_step x branch steps x group_size images (paper: 1 x 4 x 12 = 48).",
        low=2,
        high=64,
        remedy="an advantage compares the images of a group; the paper uses 12",
    )
    eta: float = setting(
        0.8,
        "How much the images of a group differ: raise it if they look alike, lower it if they look broken. The noise "
        "that a branch step adds; 0.8 is the paper's.",
        low=0.01,
        high=2.0,
        step=0.01,
        remedy="without noise all branches are the same image; the paper uses 0.8",
    )
    batch_size: int = setting(
        4,
        "Out of memory? Lower it: 1 takes the least, larger is faster. Images in one network call; what is learnt "
        "stays the same.",
        low=1,
        high=256,
        remedy="use 1 for the least memory",
    )
    exploration: Exploration = setting(
        "branches",
        "branches: the images of a group leave one deterministic image at a branch step (the released code). "
        "trajectories: each image has noise at every branch step, and begins with a noise of its own (the paper's "
        "Algorithm 1, Flow-GRPO) or with one for the group (DanceGRPO).",
        options=get_args(Exploration),
        expert=True,
    )
    kernel: Kernel = setting(
        "mar",
        "How a branch step is noisy. mar: Flow-GRPO's, which keeps the marginals. cps: Flow-CPS, whose images stay "
        "clean. dance: DanceGRPO's.",
        options=get_args(Kernel),
        expert=True,
    )
    window_every: int = setting(
        0,
        "Training steps after which all branch steps move on along the schedule, from its end back to where they began "
        "(MixGRPO: 25). 0: they stay.",
        low=0,
        high=100_000,
        expert=True,
        remedy="0 leaves the branch steps where they are",
    )
    window_stride: int = setting(
        1,
        "How many denoising steps the branch steps move on by. Unused with window_every 0.",
        low=1,
        high=100,
        expert=True,
    )
    tail_solver: TailSolver = setting(
        "euler",
        "How an image is finished after its last branch step. multistep: of second order, for fewer tail_steps.",
        options=get_args(TailSolver),
        expert=True,
    )
    tail_steps: int = setting(
        0,
        "Denoising steps of a whole image at the spacing with which images are finished after their last branch step. "
        "Fewer than steps are faster and only make the score less exact. 0: as steps.",
        low=0,
        high=200,
        expert=True,
        remedy="0 finishes images on the steps of the schedule",
    )
    coarser_tails: tuple[int, ...] = setting(
        (),
        "Each image is finished again on every n-th step of its tail, and the advantages are added (G2RPO: 2). Empty: "
        "once.",
        low=2,
        high=16,
        most=15,
        expert=True,
        remedy="2 takes every second step",
    )
    contrast: int = setting(
        0,
        "Of each group only so many images are trained on: half of them the best, half the worst. They are chosen by "
        "the scores of the tails that tail_solver and tail_steps set, and finished on the steps of the schedule. "
        "0: all.",
        low=0,
        high=62,
        step=2,
        expert=True,
        remedy="0 trains on all images of a group",
    )
    candidates: int = setting(
        0,
        "Prompts of which one image each is scored before a training step; it trains on those nearest the running mean "
        "of these scores (AdaGRPO: 10). 0: the prompts come in turn.",
        low=0,
        high=256,
        expert=True,
        remedy="0 takes the prompts in turn",
    )

    def __post_init__(self) -> None:
        check(self)
        object.__setattr__(self, "branch_steps", tuple(sorted(self.branch_steps)))
        if not self.branch_steps:
            raise ConfigError("branch_steps: empty: name at least one step, such as 0, 2, 4, 6")
        for k in self.branch_steps:
            if not 0 <= k < self.steps:
                raise ConfigError(f"branch_steps: {k} is outside [0, {self.steps}): lower it or raise steps")
            if k == self.steps - 1:
                raise ConfigError(
                    f"branch_steps: {k} is the last of {self.steps} steps, whose noise would stay in the image: use at "
                    f"most {k - 1}"
                )
        if len(set(self.branch_steps)) != len(self.branch_steps):
            raise ConfigError(f"branch_steps: {joined(self.branch_steps)} repeats a step: write each once")
        if len(set(self.coarser_tails)) != len(self.coarser_tails):
            raise ConfigError(f"coarser_tails: {joined(self.coarser_tails)} repeats a number: write each once")
        object.__setattr__(self, "coarser_tails", tuple(sorted(self.coarser_tails)))
        if self.contrast % 2:
            raise ConfigError(
                f"contrast: {self.contrast} is odd, and half of the images are the best, half the worst: use an even "
                "number, or 0"
            )
        check_combinations(self)

    @property
    def in_branches(self) -> bool:
        """Whether the images of a group differ by one branch step, rather than by all of them."""
        return self.exploration == "branches"

    @property
    def has_full_tails(self) -> bool:
        """Whether images are finished by Euler steps on the steps of the schedule, as the anchor is."""
        return self.tail_solver == "euler" and self.tail_steps in (0, self.steps)

    @property
    def tails(self) -> int:
        """M: how often each image is finished."""
        return 1 + len(self.coarser_tails)

    @property
    def groups(self) -> int:
        """F: the groups of images of one prompt on one kind of tail: K in branches, 1 of trajectories."""
        return len(self.branch_steps) if self.in_branches else 1

    def labels(self, branch_steps: tuple[int, ...]) -> list[str]:
        """The names of the M * F groups of a prompt's images. branch_steps: K of the training step."""
        groups = [f"branch step {k}" for k in branch_steps] if self.in_branches else ["trajectories"]
        tails = ["", *(f", every {n}. step of the tail" for n in self.coarser_tails)]
        return [group + tail for tail in tails for group in groups]

    @property
    def images(self) -> int:
        """M * F * G, the number of scored images of one prompt."""
        return self.tails * self.groups * self.group_size
