"""A judge behind HTTP: a vision language model, or a scorer that does not fit into ComfyUI's environment (HPSv3, UnifiedReward).

"chat completions"   POST base_url/chat/completions, one image a request: the API of OpenAI, which vLLM, SGLang, llama.cpp, Ollama and LM Studio speak
"scores"             POST base_url/score {"images": [base64 PNG, ...], "prompts": [...]} -> {"scores": [...]}       docs/rewards/hpsv3_server.py

What is no score never becomes one. A request that fails is sent again; an image that still has none gets NaN ("no opinion"), is counted in
`failures` and named in the log. Where half of a call's images or more have none, that is a TrainingError.
"""

from __future__ import annotations

import base64
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import ConfigError, TrainingError
from ..pictures import encoded
from .http.answers import Answer, Unscored, as_number, is_score
from .http.endpoint import Endpoint
from .http.exchange import Exchange
from .http.replies import ParseRule

INSTRUCTION = """How well does this image show: {prompt}
Look at every object, colour, number and position that the text names, then at the quality of the image.
Answer with a number from 0 (nothing fits) to 10 (perfect) alone, such as 7.5."""
POLL = 0.1  # seconds between two looks at the user's Cancel
SHOWN = 200  # characters of a bad reply in a message


logger = logging.getLogger("pave")


class Api(Protocol):
    """The shape of requests and replies."""

    @property
    def path(self) -> str: ...

    @property
    def batch_size(self) -> int: ...

    def ask(self, images: Tensor, prompts: Sequence[str]) -> dict[str, Any]:
        """The JSON of a request for images (n, H, W, 3)."""
        ...

    def read(self, reply: Any, count: int) -> list[Answer]:
        """One answer an image. Raises Unscored where the reply as a whole is wrong."""
        ...

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        ...


@dataclass(frozen=True)
class Chat:
    """An OpenAI-compatible vision model. {prompt} in the instruction becomes the image's prompt."""

    model: str = "default"
    instruction: str = INSTRUCTION
    rule: ParseRule = field(default_factory=ParseRule)
    max_tokens: int = 512

    path = "/chat/completions"
    batch_size = 1

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ConfigError("model: it is empty: write the name that the server lists at base_url/models")
        if not self.instruction.strip():
            raise ConfigError("instruction: it is empty: say what to judge and how to answer")
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens: {self.max_tokens} is below 1: 512 leaves room to reason")

    def ask(self, images: Tensor, prompts: Sequence[str]) -> dict[str, Any]:
        """The chat with one image and one question."""
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_png(images[0])}"}},
            {"type": "text", "text": self.instruction.replace("{prompt}", prompts[0])},
        ]
        messages = [{"role": "user", "content": content}]
        return {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": self.max_tokens}

    def read(self, reply: Any, count: int) -> list[Answer]:
        """The score in the first choice's text."""
        return [self.rule(_content(reply))]

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return {"api": "chat completions", **asdict(self)}


@dataclass(frozen=True)
class Scores:
    """A scorer of batches."""

    batch_size: int = 8

    path = "/score"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size: {self.batch_size} is below 1: use 1 for the least memory of the server")

    def ask(self, images: Tensor, prompts: Sequence[str]) -> dict[str, Any]:
        """All images and prompts of a batch."""
        return {"images": [_png(image) for image in images], "prompts": list(prompts)}

    def read(self, reply: Any, count: int) -> list[Answer]:
        """The numbers under "scores"; null is an image that the server could not score."""
        remedy = 'the server must answer {"scores": [one number an image]}'
        scores = reply.get("scores") if isinstance(reply, dict) else None
        if not isinstance(scores, list):
            raise Unscored("no list of scores in the reply", remedy)
        if len(scores) != count:
            raise Unscored(f"{len(scores)} scores for {count} images", remedy)
        return [_finite(score, remedy) for score in scores]

    def describe(self) -> dict[str, object]:
        """The settings, for recipes."""
        return {"api": "scores"}


class Judge:
    """A judge as a reward.

    concurrency: requests under way at once. check: called some ten times a second while waiting, by the thread that asks; what it raises (the
    host's Cancel) ends all requests. failures, total: images without a score by reason, and all images, since this judge was made.
    """

    name = "judge"
    may_abstain = True

    def __init__(self, endpoint: Endpoint, api: Api, concurrency: int = 4, check: Callable[[], None] = lambda: None) -> None:
        if not 1 <= concurrency <= 64:
            raise ConfigError(f"concurrency: {concurrency} is outside [1, 64]: as many as the server answers side by side, such as 4")
        if endpoint.url("").endswith(api.path):
            raise ConfigError(f"base_url: {endpoint.base_url!r} ends in {api.path}, which is added to it: leave that out")
        self.endpoint, self.api, self.concurrency, self.check = endpoint, api, concurrency, check
        self.failures: Counter[str] = Counter()
        self.total = 0

    def describe(self) -> dict[str, object]:
        """The settings, for recipes; no key is among them."""
        return {"base_url": self.endpoint.base_url, **self.api.describe()}

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,), NaN where the judge has no opinion."""
        answers = self._answers(images, prompts)
        self._report([answer for answer in answers if isinstance(answer, Unscored)], len(answers))
        return torch.tensor([math.nan if isinstance(answer, Unscored) else answer for answer in answers])

    def _answers(self, images: Tensor, prompts: Sequence[str]) -> list[Answer]:
        size = self.api.batch_size
        exchange = Exchange(self.endpoint)
        pool = ThreadPoolExecutor(self.concurrency, "pave-judge")
        try:
            starts = range(0, len(prompts), size)
            parts = [pool.submit(self._ask, exchange, images[i : i + size], prompts[i : i + size]) for i in starts]
            self._wait(parts, exchange)
            return [answer for part in parts for answer in part.result()]
        finally:
            exchange.stop()
            pool.shutdown(wait=False, cancel_futures=True)

    def _wait(self, parts: Sequence[Future[list[Answer]]], exchange: Exchange) -> None:
        """Until all are done or one has raised."""
        waiting = True
        while waiting:
            self.check()
            done, waiting = wait(parts, POLL, FIRST_EXCEPTION)
            exchange.cut_overdue()
            for part in done:
                part.result()

    def _ask(self, exchange: Exchange, images: Tensor, prompts: Sequence[str]) -> list[Answer]:
        """One request, again while any of its images is without a score."""
        body = json.dumps(self.api.ask(images, prompts)).encode()
        for attempt in range(self.endpoint.retries):
            answers = self._try(exchange, body, len(prompts))
            failed = next((answer for answer in answers if isinstance(answer, Unscored)), None)
            if failed is None or failed.final:
                return answers
            exchange.pause(attempt, failed.retry_after)
        return self._try(exchange, body, len(prompts))

    def _try(self, exchange: Exchange, body: bytes, count: int) -> list[Answer]:
        text = ""
        try:
            text = exchange.post(self.api.path, body)
            return self.api.read(_parsed(text), count)
        except Unscored as failure:
            failure.reply = failure.reply or text
            return [failure] * count

    def _report(self, failed: Sequence[Unscored], total: int) -> None:
        self.total += total
        reasons = Counter(failure.reason for failure in failed)
        self.failures += reasons
        if not failed:
            return
        counts = ", ".join(f"{reason} ({count} times)" for reason, count in reasons.most_common(3))
        worst = next(failure for failure in failed if failure.reason == reasons.most_common(1)[0][0])
        reply = f"; a reply: {shortened(worst.reply)!r}" if worst.reply else ""
        message = f"judge: {len(failed)} of {total} images got no score from {self.endpoint.url(self.api.path)}: {counts}{reply}: {worst.remedy}"
        if 2 * len(failed) >= total:
            raise TrainingError(message)
        logger.warning(f"Pave-GRPO {message}")


def shortened(text: str) -> str:
    """The text on one line, its middle left out where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN // 2]} ... {line[-SHOWN // 2 :]}"


def _png(image: Tensor) -> str:
    return base64.b64encode(encoded(image, "PNG")).decode()


def _parsed(text: str) -> Any:
    if not text.strip():
        raise Unscored("an empty reply", "look at the server's own log")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "a web page" if text.lstrip()[0] == "<" else "a text"
        raise Unscored(f"{kind} that is not JSON", "check base_url: it often ends in /v1") from error


def _content(reply: Any) -> str:
    """choices[0].message.content, which is a text or a list of parts with texts; not one that was cut off, of which the score may be missing."""
    try:
        choice = reply["choices"][0]
        content = choice["message"]["content"]
        if isinstance(content, list):
            content = "".join(part["text"] for part in content if part["type"] == "text")
    except (LookupError, TypeError) as error:
        raise Unscored("no choices with a message in the reply", "check base_url: it must speak OpenAI's chat completions") from error
    if choice.get("finish_reason") == "length":
        raise Unscored("a reply that was cut off", "raise max_tokens, or ask for a shorter answer")
    if content is None or content == "":
        raise Unscored("a message without text", "raise max_tokens: a judge that reasons needs room")
    if not isinstance(content, str):
        raise Unscored("a message that is not text", "check base_url: it must speak OpenAI's chat completions")
    return content


def _finite(score: object, remedy: str) -> Answer:
    if isinstance(score, bool) or not isinstance(score, int | float):
        return Unscored("no score for an image", "look at the server's own log")
    value = as_number(score)
    return value if is_score(value) else Unscored("a score that is not finite", remedy)
