"""Rewards as nodes: you, and what was learnt of your taste."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from ...pave_core.person.learner import Learner
from ...pave_core.person.reward import AT_ONCE, PersonReward
from ...pave_core.person.taste import ClipFeatures, Taste, TasteReward
from ..host import folders
from ..host.panel.desk import PageAsker
from ..shared import schema
from ..shared.schema import advanced, checked
from .networks import BUNDLED, chosen_clip, clip_inputs, made_compute
from .weight_files import CLIP, found

NOTHING = "nothing"


class PavePerson(io.ComfyNode):
    """A person who looks and chooses."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PavePerson",
            "Pave Person",
            terms=["human feedback", "rlhf", "my clicks", "preference", "rate images", "you are the reward"],
            description="Reward: you. Each training step shows you its images, and waits until you have clicked those "
            "that you like. From some dozens of answers a small network learns your taste, and asks only about what it "
            "is unsure of.",
            inputs=[
                io.Int.Input(
                    "at_once",
                    default=AT_ONCE,
                    min=2,
                    max=24,
                    tooltip="The most images that you are shown at once. The groups of one prompt are put together up "
                    "to it.",
                ),
                io.Boolean.Input(
                    "learn",
                    default=True,
                    tooltip="Your taste is learnt from your answers while you give them: a second of work a step. "
                    "Without it, you are asked every time, and no gain can be measured.",
                ),
                io.Int.Input(
                    "alone_after",
                    default=40,
                    min=0,
                    max=100_000,
                    tooltip="Answers after which the training goes on by itself, and asks only about what it is "
                    "unsure of. 0: you are always asked.",
                ),
                io.Float.Input(
                    "sure",
                    default=0.8,
                    min=0.5,
                    max=1.0,
                    step=0.01,
                    tooltip="How sure it must be of its choice to make it alone. Higher asks you more often; 1 always.",
                ),
                io.Combo.Input(
                    "begin_with",
                    options=[NOTHING, *folders.tastes()],
                    default=NOTHING,
                    tooltip="A taste that an earlier run has learnt from you, to learn on from. Press R to refresh the "
                    "list.",
                ),
                *map(advanced, clip_inputs()),
            ],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, begin_with: str | None = None, checkpoint: str | None = None) -> bool | str:
        return _there("begin_with", None if begin_with == NOTHING else begin_with, checkpoint)

    @classmethod
    def execute(
        cls,
        at_once: int,
        learn: bool,
        alone_after: int,
        sure: float,
        begin_with: str,
        checkpoint: str,
        architecture: str,
    ) -> io.NodeOutput:
        asker, learner = PageAsker(), None
        if learn:
            features = _features(checkpoint, architecture)
            before = None if begin_with == NOTHING else Taste.load(folders.taste("begin_with", begin_with), features)
            learner = Learner(
                features,
                before=before,
                alone_after=alone_after,
                sure=sure,
                save=lambda taste: taste.save(asker.folder() / folders.TASTE),
            )
            asker.learnt = partial(_said, learner)
        return io.NodeOutput(PersonReward(asker, at_once=at_once, learner=learner))


def _said(learner: Learner) -> dict[str, Any] | None:
    """What the page is told of a taste."""
    taste = learner.taste
    if taste is None or taste.accuracy is None:
        return None
    share, se = (f"{100 * value:.0f}" for value in (taste.accuracy.share, taste.accuracy.se))
    text = f"Learnt from {taste.choices} answers: of those it had not seen, it orders {share} ± {se} % as you did."
    return {"text": text, "answers": taste.choices}


class PaveTaste(io.ComfyNode):
    """A taste that was learnt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema.schema(
            "PaveTaste",
            "Pave Taste",
            terms=["my taste", "human feedback", "preference", "reward model", "learnt from clicks"],
            description="Reward: a taste that Pave Person has learnt from somebody's answers, without asking anybody. "
            "Copy taste.safetensors to models/reward_models to share it.",
            inputs=[
                io.Combo.Input(
                    "taste",
                    options=folders.tastes() or [folders.CHOOSE],
                    tooltip="The run that learnt it, or a file in models/reward_models whose name ends in "
                    "taste.safetensors. Press R to refresh the list.",
                ),
                *clip_inputs(),
            ],
            outputs=[schema.reward_output()],
        )

    @classmethod
    def validate_inputs(cls, taste: str | None = None, checkpoint: str | None = None) -> bool | str:
        return _there("taste", taste, checkpoint)

    @classmethod
    def execute(cls, taste: str, checkpoint: str, architecture: str) -> io.NodeOutput:
        return io.NodeOutput(TasteReward(folders.taste("taste", taste), _features(checkpoint, architecture)))


def _there(field: str, taste: str | None, checkpoint: str | None) -> bool | str:
    """Whether the files of these choices are there, else which are not, in words; None: not chosen here."""
    known = True if taste is None else checked(lambda: folders.taste(field, taste))
    return known if known is not True else found((CLIP, None if checkpoint == BUNDLED else checkpoint))


def _features(checkpoint: str, architecture: str) -> ClipFeatures:
    return ClipFeatures(*chosen_clip(checkpoint, architecture), made_compute("fp32", 16))


NODES = [PavePerson, PaveTaste]
