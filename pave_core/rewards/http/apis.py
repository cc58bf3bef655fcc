"""The two ways to ask a server for scores: the shape of a request, and where the answers are in its reply.

"chat completions"   POST base_url/chat/completions, one image per request: the API of OpenAI, which vLLM, SGLang,
                     llama.cpp, Ollama and LM Studio speak
"scores"             POST base_url/score {"images": [base64 PNG, ...], "prompts": [...]} -> {"scores": [...]};
                     an example of such a server is docs/rewards/hpsv3_server.py
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ...config.fields import check, setting
from ...errors import ConfigError, TrainingError
from ...images import encoded
from .answers import Answer, Unscored, as_number, is_score
from .replies import ParseRule

INSTRUCTION = """How well does this image show: {prompt}
Look at every object, colour, number and position that the text names, then at the quality of the image.
Answer with a number from 0 (nothing fits) to 10 (perfect) alone, such as 7.5."""
MAX_MODEL, MAX_INSTRUCTION, MAX_QUESTION = 200, 20_000, 100_000
"""Characters of the model's name, of the instruction, and of the instruction with the prompt in it."""


class Api(Protocol):
    """The shape of requests and replies."""

    @property
    def path(self) -> str:
        """The part of the address after base_url, such as /score."""
        ...

    @property
    def batch_size(self) -> int:
        """The most images in one request."""
        ...

    def ask(self, images: Tensor, prompts: Sequence[str]) -> dict[str, Any]:
        """The JSON of a request for images (n, H, W, 3) in [0, 1] and their n prompts, n up to batch_size."""
        ...

    def read(self, reply: Any, count: int) -> list[Answer]:
        """The `count` answers in the JSON of a reply, one per image. Unscored where the reply as a whole is wrong."""
        ...

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        ...


@dataclass(frozen=True)
class Chat:
    """An OpenAI-compatible vision model, asked for one image at a time.

    model: the name that the server knows it by. instruction: what it is told; {prompt} becomes the image's prompt.
    rule: where the score is in its answer. max_tokens: the longest answer, reasoning included.
    """

    model: str = setting("default", "For chat completions: the model's name on the server.", most=MAX_MODEL)
    instruction: str = setting(
        INSTRUCTION,
        "For chat completions: what the model is told. {prompt} becomes the prompt of the image.",
        most=MAX_INSTRUCTION,
    )
    rule: ParseRule = field(default_factory=ParseRule)
    max_tokens: int = setting(
        512,
        "For chat completions: the longest answer, reasoning included.",
        low=1,
        high=32768,
        remedy="512 leaves room to reason",
    )

    path = "/chat/completions"
    batch_size = 1

    def __post_init__(self) -> None:
        check(self)
        if not self.model.strip():
            raise ConfigError("model: it is empty: write the name that the server lists at base_url/models")
        if not self.instruction.strip():
            raise ConfigError("instruction: it is empty: say what to judge and how to answer")

    def ask(self, images: Tensor, prompts: Sequence[str]) -> dict[str, Any]:
        """The chat with one image and one question."""
        length = len(self.instruction) + self.instruction.count("{prompt}") * len(prompts[0])
        if length > MAX_QUESTION:
            raise TrainingError(
                f"instruction: with a prompt in it, it has {length} characters: {MAX_QUESTION} are allowed, shorten "
                "the prompt or name it less often"
            )
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_png(images[0])}"}},
            {"type": "text", "text": self.instruction.replace("{prompt}", prompts[0])},
        ]
        messages = [{"role": "user", "content": content}]
        return {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": self.max_tokens}

    def read(self, reply: Any, count: int) -> list[Answer]:
        """The score in the text of the first choice."""
        return [self.rule(_content(reply))]

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return {"api": "chat completions", **asdict(self)}


@dataclass(frozen=True)
class Scorer:
    """A scorer that takes a batch and answers with numbers. batch_size: images in one request."""

    batch_size: int = setting(
        8,
        "For scores: images in one request.",
        low=1,
        high=256,
        remedy="use 1 for the least memory of the server",
    )

    path = "/score"

    def __post_init__(self) -> None:
        check(self)

    def ask(self, images: Tensor, prompts: Sequence[str]) -> dict[str, Any]:
        """All images and prompts of a batch."""
        return {"images": [_png(image) for image in images], "prompts": list(prompts)}

    def read(self, reply: Any, count: int) -> list[Answer]:
        """The numbers under "scores"; null is an image that the server could not score."""
        remedy = 'the server must answer {"scores": [one number per image]}'
        scores = reply.get("scores") if isinstance(reply, dict) else None
        if not isinstance(scores, list):
            raise Unscored("no list of scores in the reply", remedy)
        if len(scores) != count:
            raise Unscored(f"{len(scores)} scores for {count} images", remedy)
        return [_finite(score, remedy) for score in scores]

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return {"api": "scores"}


def _png(image: Tensor) -> str:
    """An image (H, W, 3) in [0, 1] as a PNG in base64."""
    return base64.b64encode(encoded(image, "PNG")).decode()


def _content(reply: Any) -> str:
    """choices[0].message.content, which is a text or a list of parts with texts.

    Unscored where there is no text, or one that was cut off: its end, where the score is, may be missing.
    """
    other = "check base_url: it must speak OpenAI's chat completions"
    try:
        choice = reply["choices"][0]
        content = choice["message"]["content"]
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if part["type"] == "text")
    except (LookupError, TypeError) as error:
        raise Unscored("no choices with a message in the reply", other) from error
    if choice.get("finish_reason") == "length":
        raise Unscored("a reply that was cut off", "raise max_tokens, or ask for a shorter answer")
    if content is None or content == "":
        raise Unscored("a message without text", "raise max_tokens: a judge that reasons needs room")
    if not isinstance(content, str):
        raise Unscored("a message that is not text", other)
    return content


def _finite(score: object, remedy: str) -> Answer:
    """The score of one image if it is a finite number. remedy: for a number that is not."""
    if isinstance(score, bool) or not isinstance(score, int | float):
        return Unscored("no score for an image", "look at the server's own log")
    value = as_number(score)
    return value if is_score(value) else Unscored("a score that is not finite", remedy)
