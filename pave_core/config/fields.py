"""Settings, each written once: on its dataclass field.

    steps: int = setting(16, "Denoising steps of an image while training.", low=2, high=200)

The field's name, type and default, with the arguments of setting(), are the source of its check (check), of its widget
and tooltip (nodes/shared/widgets.py), of README's table and of the texts for translators (tools/make_help.py).

A widget shows a tuple as text, "0, 2, 4", and a pair as two numbers. shown() goes from a config to the values of its
widgets, from_shown() back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ..errors import ConfigError, quoted

C = TypeVar("C")
_HALF = re.compile("[\ud800-\udfff]")
KINDS: dict[type, str] = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
"""The kinds of values that settings have, as error messages call them."""
NUMBERS: dict[type, tuple[str, str]] = {int: ("whole numbers", "0, 2, 4"), float: ("numbers", "1, 0.5")}
"""{the kind of the numbers of a list: (what messages call them, an example)}."""
PAIR = 2
MAX_TEXT = 5000
"""The most characters of a text, such as a negative prompt, or of a list of numbers."""


@dataclass(frozen=True)
class Setting:
    """The metadata of a setting: everything but its name, type and default."""

    help: str  # for users: a sentence or two
    low: float | None = None  # the smallest value allowed; in a tuple, for each number
    high: float | None = None  # the largest value allowed, likewise
    most: int = 1  # of a tuple: the most numbers it may have; of a text: its most characters, if not MAX_TEXT
    step: float = 1  # the increment of the widget
    options: tuple[str, ...] = ()  # the texts allowed; empty: any
    remedy: str = ""  # the end of an error message: what to do
    expert: bool = False  # hosts that can do so fold the widget away
    widget: str = ""  # the widget's name, if it differs from the field's


@dataclass(frozen=True)
class Shown:
    """A widget: the field that it shows, and its default value."""

    field: str
    place: int | None  # the index into the field's value for a pair, else None
    default: Any
    setting: Setting
    kind: type  # one of KINDS: of the value, or of each number of a tuple
    is_text: bool  # a tuple that is shown as text

    def of(self, config: Any) -> Any:
        """The value of the setting in a config: the field's, or one number of a pair."""
        value = getattr(config, self.field)
        if self.place is None:
            return value
        if not isinstance(value, tuple) or len(value) != PAIR:
            raise ConfigError(f"{self.field}: {quoted(value)} is not a pair of numbers: give two")
        return value[self.place]


def setting(default: Any, help: str, **said: Any) -> Any:
    """A dataclass field with a Setting; `said` are the Setting's other attributes."""
    return field(default=default, metadata={"settings": (Setting(help, **said),)})


def pair(default: tuple[float, float], first: Setting, second: Setting) -> Any:
    """A dataclass field of two numbers, with one widget for each."""
    return field(default=default, metadata={"settings": (first, second)})


@cache
def widgets_of(config: type) -> dict[str, Shown]:
    """{widget name: its description} of the settings of a dataclass, in the order of its fields."""
    hints = get_type_hints(config)
    found = {}
    for each in fields(config):
        said, default = each.metadata.get("settings", ()), each.default
        kind, is_tuple = _kind(hints[each.name]), isinstance(default, tuple)
        for place, one in enumerate(said):
            name = one.widget or each.name
            if len(said) == PAIR:
                found[name] = Shown(each.name, place, default[place], one, kind, is_text=False)  # pyright: ignore[reportIndexIssue]
            else:
                found[name] = Shown(each.name, None, _as_shown(default), one, kind, is_text=is_tuple)
    return found


def shown(config: Any) -> dict[str, Any]:
    """{widget name: the value it shows} of a config."""
    return {name: _as_shown(widget.of(config)) for name, widget in widgets_of(type(config)).items()}


def from_shown(config: type[C], values: Mapping[str, Any], **others: Any) -> C:
    """The inverse of shown(): a `config` from the values of its widgets.

    A widget that `values` does not name has its default; `others` are fields that no widget shows. ConfigError for a
    text that is no list of numbers, or for a value that the config refuses.
    """
    built: dict[str, Any] = dict(others)
    for name, widget in widgets_of(config).items():
        value = values.get(name, widget.default)
        if widget.place is not None:
            built[widget.field] = (*built.get(widget.field, ()), value)
        elif widget.is_text:
            built[widget.field] = parse_numbers(name, value, whole=widget.kind is int)
        else:
            built[widget.field] = value
    return config(**built)


def check(config: Any) -> None:
    """ConfigError for the first setting that is of another kind, outside its range or not among its options.

    The message names the setting, its value and the remedy.
    """
    for name, widget in widgets_of(type(config)).items():
        said, kind, value = widget.setting, widget.kind, widget.of(config)
        remedy = f": {said.remedy}" if said.remedy else ""
        if said.options and value not in said.options:
            raise ConfigError(f"{name}: {quoted(value)} is not known: choose one of {', '.join(said.options)}")
        if isinstance(value, tuple) != widget.is_text:
            what = f"a list of {NUMBERS[kind][0]}" if widget.is_text else KINDS[kind]
            raise ConfigError(f"{name}: {quoted(value)} is not {what}{remedy}")
        if isinstance(value, tuple) and len(value) > said.most:
            raise ConfigError(f"{name}: {len(value)} numbers are too many: give at most {said.most}")
        for part in value if isinstance(value, tuple) else (value,):
            if not _is_of(kind, part):
                raise ConfigError(f"{name}: {quoted(part)} is not {KINDS[kind]}{remedy}")
            if kind is str:
                check_text(name, part, said.most if said.most > 1 else MAX_TEXT)
            elif kind is not bool:
                _check_range(name, part, said, remedy)


def check_text(name: str, text: Any, most: int) -> None:
    """ConfigError, about `name`, for what is no text, is longer than `most` characters, or cannot be kept in files."""
    if not isinstance(text, str):
        raise ConfigError(f"{name}: {quoted(text)} is not a text: write one")
    if len(text) > most:
        raise ConfigError(f"{name}: {quoted(text)} has {len(text)} characters: shorten it to at most {most}")
    if "\0" in text or _HALF.search(text):
        raise ConfigError(
            f"{name}: {quoted(text)} holds a character that no file can hold (NUL, or half of a pair): write it anew"
        )


def check_line(name: str, text: Any, most: int) -> None:
    """The same, and ConfigError for a text of several lines."""
    check_text(name, text, most)
    if len(text.splitlines()) > 1:
        raise ConfigError(f"{name}: {quoted(text)} has several lines: write it in one")


def joined(numbers: tuple[float, ...]) -> str:
    """(0, 2, 4) -> "0, 2, 4", with all digits of each number."""
    return ", ".join(str(int(n)) if isinstance(n, float) and n.is_integer() else repr(n) for n in numbers)


def parse_numbers(name: str, text: str, whole: bool) -> tuple[Any, ...]:
    """The numbers in a text: "0, 2, 4" -> (0, 2, 4), "" -> ().

    whole: integers only. ConfigError, about the setting `name`, for any other text.
    """
    check_text(name, text, MAX_TEXT)
    try:
        return tuple((int if whole else float)(part) for part in text.replace(",", " ").split())
    except ValueError:
        kind, example = NUMBERS[int if whole else float]
        raise ConfigError(f"{name}: {quoted(text)} is not a list of {kind}: write it like {example}") from None


def _as_shown(value: Any) -> Any:
    return joined(value) if isinstance(value, tuple) else value


def _is_of(kind: type, value: Any) -> bool:
    """Whether a value is of a kind of KINDS: a whole number is a number, true is none."""
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _check_range(name: str, number: Any, said: Setting, remedy: str) -> None:
    if isinstance(number, float) and math.isnan(number):
        raise ConfigError(f"{name}: {number} is not a number{remedy}")
    if said.low is not None and number < said.low:
        raise ConfigError(f"{name}: {quoted(number)} is below {said.low}{remedy}")
    if said.high is not None and number > said.high:
        raise ConfigError(f"{name}: {quoted(number)} is above {said.high}, the largest allowed{remedy}")


def _kind(hint: Any) -> Any:
    """int, float, bool or str: the kind of a field with this type, or of the numbers in its tuple."""
    hint = get_args(hint)[0] if get_origin(hint) is tuple else hint
    return str if get_origin(hint) is Literal else hint
