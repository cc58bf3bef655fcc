"""The score in the text of a judge's reply: rules that find one number, or refuse.

"number"       the last number of the text; not of a fraction (8/10, 8 of 10) or a range (1-5), nor with commas (1,000)
"final score"  x of the last "Final Score: x", x from 1 to 5, as x / 5             UnifiedReward, arXiv 2503.05236
"json key"     the number under a key, such as score or result.score, of the first JSON object in the text
"regex"        the number in the first and only group of a pattern, at its first match

No rule guesses: a reply that can be read in two ways is refused.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, get_args

from ...errors import ConfigError, quoted
from .answers import Unscored, as_number, is_score
from .patterns import MAX_PATTERN, pattern_of

Kind = Literal["number", "final score", "json key", "regex"]

NUMBER = r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?"
_OF = r"\s*/|\s+(?:out\s+)?of\s+\d"
_PLAIN = re.compile(rf"(?<![\w.,/–-]){NUMBER}(?![\w–-]|[.,]\d|{_OF})", re.IGNORECASE)
_AFTER_FRACTION = re.compile(r"(?:/|\bout\s+of|\d\s+of)\s*$", re.IGNORECASE)
_FINAL = re.compile(
    rf"final\s+score(?:\s*\([^)]{{0,20}}\))?\W{{0,8}}?[:=]\W{{0,8}}?({NUMBER})"
    rf"(?:(?:\s*/|\s+out\s+of)\s*5)?(?!\d|[.,]\d|\s*[–-]\s*\d|{_OF})",
    re.IGNORECASE,
)
MAX_TEXT = 4000
"""Characters at the end of a reply that are searched: judges reason first, and no pattern may run for long."""
MAX_JSON = 100_000
"""Characters of a reply that may hold JSON."""
MAX_BRACES = 50
"""Places where a JSON object may begin that are tried."""


@dataclass(frozen=True)
class ParseRule:
    """From a text to a finite number. ConfigError for a rule that cannot work.

    pattern: for "json key" the key, with dots between levels; for "regex" the pattern; for the others nothing.
    """

    kind: Kind = "number"
    pattern: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigError(f"parse: {quoted(self.kind)} is not known: choose one of {', '.join(get_args(Kind))}")
        if not isinstance(self.pattern, str):
            raise ConfigError(f"pattern: {quoted(self.pattern)} is not a text: write a key or a pattern")
        if self.kind == "json key" and not (all(self.pattern.split(".")) and len(self.pattern) <= MAX_PATTERN):
            raise ConfigError(
                f"pattern: {quoted(self.pattern)} is not a key: write the name of the number in the reply, such as "
                "score or result.score"
            )
        if self.kind == "regex":
            pattern_of(self.pattern)

    def __call__(self, text: str) -> float:
        """The score in `text`, after the reasoning if there is any. Unscored where the rule finds none."""
        whole, text = text, text.rpartition("</think>")[2].strip()
        if "<think>" in text:
            raise Unscored("reasoning without an answer", "raise max_tokens", reply=whole)
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
            raise Unscored("a number that is not finite", "ask for a number in a small range", reply=text)
        return value

    def _last_number(self, text: str) -> str:
        tail = _end(text)
        found = list(_PLAIN.finditer(tail))
        if not found:
            remedy = "ask in the instruction for a number alone, such as 7.5"
            raise Unscored("no plain number in the reply", remedy, reply=text)
        last = found[-1]
        if _AFTER_FRACTION.search(tail[: last.start()]) or re.search(r"\d", tail[last.end() :]):
            remedy = "ask for a number alone, or use another parse rule"
            raise Unscored("a number that can be read in two ways", remedy, reply=text)
        return last[0]

    def _final_score(self, text: str) -> float:
        found = _FINAL.findall(_end(text))
        if not found:
            remedy = 'ask for "Final Score: " and a number from 1 to 5'
            raise Unscored('no "Final Score: 1-5" in the reply', remedy, reply=text)
        value = float(found[-1])
        if not 1 <= value <= 5:
            remedy = "say in the instruction that the score is from 1 to 5"
            raise Unscored("a final score outside 1 to 5", remedy, reply=text)
        return value / 5

    def _json_key(self, text: str) -> float | str:
        value = _first_object(text)
        for key in self.pattern.split("."):
            if not isinstance(value, dict) or key not in value:
                remedy = "ask for JSON with that key in the instruction"
                raise Unscored(f"no {quoted(self.pattern)} in the JSON of the reply", remedy, reply=text)
            value = value[key]
        if isinstance(value, str) and re.fullmatch(NUMBER, value.strip(), re.ASCII):
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unscored(
                f"{quoted(self.pattern)} is not a number", "ask for a plain number under that key", reply=text
            )
        return as_number(value)

    def _regex(self, text: str) -> str:
        found = pattern_of(self.pattern).search(_end(text))
        if found is None:
            remedy = "change the pattern, or the instruction, until they fit"
            raise Unscored("nothing in the reply matches the pattern", remedy, reply=text)
        if not re.fullmatch(NUMBER, found.strip(), re.ASCII):
            remedy = "let the group cover the digits alone, such as (\\d+)"
            raise Unscored("the pattern's group is not a number", remedy, reply=text)
        return found


def _end(text: str) -> str:
    """The last MAX_TEXT characters of the text, from the beginning of a word."""
    return text if len(text) <= MAX_TEXT else text[-MAX_TEXT:].partition(" ")[2]


def _first_object(text: str) -> object:
    """The first JSON object in the text, which may be inside a Markdown fence. Unscored where there is none."""
    decoder, place = json.JSONDecoder(), -1
    for _ in range(MAX_BRACES):
        place = text.find("{", place + 1)
        if place < 0 or len(text) > MAX_JSON:
            break
        try:
            return decoder.raw_decode(text, place)[0]
        except (ValueError, RecursionError):
            continue
    raise Unscored("no JSON object in the reply", "ask in the instruction for JSON alone", reply=text)
