"""Packages that only some parts need, in an environment that others share: missing, too old or broken."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata

from .errors import ConfigError, in_words

_SHOWN = 160  # characters of a package's own error


@contextmanager
def needed(field: str, *requirements: str) -> Iterator[None]:
    """ConfigError with the pip line that mends it, whatever the imports inside raise.

    field: what the message begins with. requirements: what is imported and what that hangs on, as pip reads them.
    """
    try:
        yield
    except Exception as error:  # a broken package raises anything
        why = in_words(error, _SHOWN)
        lacking = _unmet(requirements) or isinstance(error, ModuleNotFoundError)
        options = "" if lacking else "--force-reinstall --no-deps "
        wanted = options + " ".join(f'"{each}"' for each in requirements)
        raise ConfigError(f"{field}: {named(requirements[0])} cannot be imported ({why}): {pip(wanted)}") from error


def pip(what: str) -> str:
    """The sentence that tells to install `what`, with the Python that is running."""
    return f'run "{sys.executable}" -m pip install {what} and restart'


def named(requirement: str) -> str:
    """The package that a requirement names."""
    return re.split(r"[<>=!~ \[;]", requirement)[0]


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.32.1.post2" -> (2, 32, 1)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _unmet(requirements: tuple[str, ...]) -> bool:
    """Whether a package is not there, or older than its requirement asks for."""
    for requirement in requirements:
        try:
            version = metadata.version(named(requirement))
        except metadata.PackageNotFoundError:
            return True
        if release(version) < release(requirement.partition(">=")[2]):
            return True
    return False
