"""Rewards of other node packs, by name. A pack calls register(); Pave Reward From Another Pack lists the rewards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import ConfigError, PaveError, quoted
from ..types import Reward


@dataclass(frozen=True)
class Entry:
    """The arguments of one call of register(), without the name."""

    factory: Callable[[], Reward]
    description: str


_entries: dict[str, Entry] = {}


def register(name: str, factory: Callable[[], Reward], description: str = "") -> None:
    """Offer a reward to graphs. ConfigError if an argument cannot be used.

    name: what the drop-down shows; each can be taken once. factory: called without arguments when a graph needs the
    reward; returns an object with a `name` and a __call__(images (N, H, W, 3) in [0, 1], N prompts) -> N numbers,
    higher is better. description: one line for users.
    """
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(f"name: {quoted(name)} is no name for a reward: give a text that tells users what it likes")
    if name in _entries:
        raise ConfigError(
            f"name: a reward {quoted(name)} is registered already: give yours another name, such as one with your "
            "pack's name in it"
        )
    if not callable(factory):
        raise ConfigError(
            f"factory: {quoted(factory)} of reward {quoted(name)} cannot be called: give a function without arguments "
            "that makes the reward"
        )
    if not isinstance(description, str):
        raise ConfigError(
            f"description: {quoted(description)} of reward {quoted(name)} is not a text: give one line, or leave it out"
        )
    _entries[name] = Entry(factory, description)


def registered() -> dict[str, str]:
    """{name: description} of the registered rewards, in the order of registration."""
    return {name: entry.description for name, entry in _entries.items()}


def make(name: str) -> Reward:
    """A new reward of that name. ConfigError if there is none, or its pack cannot make it."""
    if name not in _entries:
        raise ConfigError(
            f"reward: {quoted(name)} is not registered: install or update the pack that it comes from, and restart"
        )
    try:
        reward = _entries[name].factory()
    except PaveError:
        raise
    except Exception as error:  # the factory is another pack's code
        raise ConfigError(
            f"reward: {quoted(name)} could not be made by its pack ({type(error).__name__}: {error}): tell that "
            "pack's author"
        ) from error
    if not isinstance(getattr(reward, "name", None), str) or not callable(reward):
        raise ConfigError(
            f"reward: the pack of {quoted(name)} made {quoted(reward)}, which has no name or cannot be called: tell "
            "that pack's author"
        )
    return reward
