"""What a judge's reply says: rules that find one number in it, or refuse. No rule guesses: a reply that can be read in two ways is refused.

"number"       the last number of the text; not one of a fraction (8/10, 8 of 10), a range (1-5) or with separators (1,000)
"final score"  x of the last "Final Score: x", x from 1 to 5, as x / 5                  UnifiedReward, arXiv 2503.05236
"json key"     the number under a key, such as score or result.score, of the first JSON object in the text
"regex"        the number in the first and only group of a pattern, at its first match
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, get_args

from ...errors import ConfigError
from .answers import Unscored, as_number, is_score

Kind = Literal["number", "final score", "json key", "regex"]

NUMBER = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
_OF = r"\s*/|\s+(?:out\s+)?of\s+\d"
_PLAIN = re.compile(rf"(?<![\w.,/–-]){NUMBER}(?![\w–-]|[.,]\d|{_OF})", re.IGNORECASE)
_AFTER_FRACTION = re.compile(r"(?:/|\bout\s+of|\d\s+of)\s*$", re.IGNORECASE)
_FINAL = re.compile(
    rf"final\s+score(?:\s*\([^)]{{0,20}}\))?\W{{0,8}}?[:=]\W{{0,8}}?({NUMBER})(?:(?:\s*/|\s+out\s+of)\s*5)?(?!\d|[.,]\d|\s*[–-]\s*\d|{_OF})",
    re.IGNORECASE,
)
MAX_TEXT = (
    4000  # characters from the end of a reply that are searched: judges reason first, and no pattern may run for long
)
MAX_JSON = 100_000
MAX_BRACES = 50


@dataclass(frozen=True)
class ParseRule:
    """From a text to a finite number. `pattern` is the key of "json key" and the pattern of "regex"."""

    kind: Kind = "number"
    pattern: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"parse: {self.kind!r} is not known: choose one of {', '.join(get_args(Kind))}")
        if self.kind == "json key" and not all(self.pattern.split(".")):
            raise ConfigError(
                f"pattern: {self.pattern!r} is no key: write the name of the number in the reply, such as score or result.score"
            )
        if self.kind == "regex":
            _check_pattern(self.pattern)

    def __call__(self, text: str) -> float:
        """The score in `text`. Raises Unscored."""
        whole, text = text, text.rpartition("</think>")[2].strip()
        if "<think>" in text:
            raise Unscored("reasoning without an answer", "raise max_tokens", whole)
        if not text:
            raise Unscored("an empty reply", "raise max_tokens, or say in the instruction what to answer")
        read = {
            "number": self._last_number,
            "final score": self._final_score,
            "json key": self._json_key,
            "regex": self._regex,
        }
        value = float(read[self.kind](text))
        if not is_score(value):
            raise Unscored("a number that is not finite", "ask for a number in a small range", text)
        return value

    def _last_number(self, text: str) -> str:
        tail = _end(text)
        found = list(_PLAIN.finditer(tail))
        if not found:
            raise Unscored(
                "no plain number in the reply", "ask in the instruction for a number alone, such as 7.5", text
            )
        last = found[-1]
        if _AFTER_FRACTION.search(tail[: last.start()]) or re.search(r"\d", tail[last.end() :]):
            raise Unscored(
                "a number that can be read in two ways", "ask for a number alone, or use another parse rule", text
            )
        return last[0]

    def _final_score(self, text: str) -> float:
        found = _FINAL.findall(_end(text))
        if not found:
            raise Unscored(
                'no "Final Score: 1-5" in the reply', 'ask for "Final Score: " and a number from 1 to 5', text
            )
        value = float(found[-1])
        if not 1 <= value <= 5:
            raise Unscored("a final score outside 1 to 5", "say in the instruction that the score is from 1 to 5", text)
        return value / 5

    def _json_key(self, text: str) -> float | str:
        value = _first_object(text)
        for key in self.pattern.split("."):
            if not isinstance(value, dict) or key not in value:
                raise Unscored(
                    f"no {self.pattern} in the JSON of the reply",
                    f'ask for JSON with that key, such as {{"{key}": 7.5}}',
                    text,
                )
            value = value[key]
        if isinstance(value, str) and re.fullmatch(NUMBER, value.strip(), re.ASCII):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unscored(f"{self.pattern} is not a number", "ask for a plain number under that key", text)
        return as_number(value)

    def _regex(self, text: str) -> str:
        found = re.search(self.pattern, _end(text))
        if not found:
            raise Unscored(
                "nothing in the reply matches the pattern",
                "change the pattern, or the instruction, until they fit",
                text,
            )
        if not re.fullmatch(NUMBER, (found[1] or "").strip(), re.ASCII):
            raise Unscored(
                "the pattern's group is not a number", "let the group cover the digits alone, such as (\\d+)", text
            )
        return found[1]


def _end(text: str) -> str:
    """The last MAX_TEXT characters, from a word's beginning on."""
    return text if len(text) <= MAX_TEXT else text[-MAX_TEXT:].partition(" ")[2]


def _first_object(text: str) -> object:
    """The first JSON object in the text, which may stand in a Markdown fence."""
    decoder, place = json.JSONDecoder(), -1
    for _ in range(MAX_BRACES):
        place = text.find("{", place + 1)
        if place < 0 or len(text) > MAX_JSON:
            break
        try:
            return decoder.raw_decode(text, place)[0]
        except (ValueError, RecursionError):
            continue
    raise Unscored("no JSON object in the reply", "ask in the instruction for JSON alone", text)


def _check_pattern(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"pattern: {pattern!r} is not a regular expression ({error}): correct it, such as Score: (\\d+)"
        ) from error
    if groups != 1:
        raise ConfigError(
            f"pattern: {pattern!r} has {groups} groups: put one pair of ( ) around the number; others begin with (?:"
        )
    if _may_run_forever(pattern):
        raise ConfigError(
            f"pattern: {pattern!r} repeats a group that repeats or has alternatives, which can run for hours: write it without"
        )


def _may_run_forever(pattern: str) -> bool:
    """Whether a group with a repetition or an alternative in it is itself repeated without bound: such patterns can take exponential time."""
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", pattern, flags=re.DOTALL)
    risky = [False]
    for place, character in enumerate(plain):
        if character == "(":
            risky.append(False)
        elif character in "*+|" or re.match(r"\{\d*,\d*\}", plain[place:]):
            risky[-1] = True
        elif character == ")":
            inner = risky.pop()
            if inner and re.match(r"[*+]|\{\d*,?\d*\}", plain[place + 1 :]):
                return True
            risky[-1] = risky[-1] or inner
    return False
