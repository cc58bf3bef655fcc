"""A judge behind HTTP: a vision language model, or a scorer that does not fit into ComfyUI's environment (HPSv3).

A reply without a score never becomes a score. A request that fails is sent again; an image that still has no score gets
NaN ("no opinion") and is counted in `failures` and in the log. If half of a call's images or more have no score, that
is a TrainingError.
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, TrainingError, quoted, shortened
from .http.answers import MAX_KEPT, Answer, Unscored
from .http.apis import Api
from .http.endpoint import Endpoint
from .http.exchange import Exchange

POLL = 0.1  # seconds between two looks at the user's Cancel
SHOWN = 200  # characters of a bad reply in a message
MAX_REQUESTS = 64

logger = logging.getLogger("pave")


class Judge:
    """A judge as a reward.

    concurrency: requests under way at once, from 1 to MAX_REQUESTS, else ConfigError.
    check: called about ten times a second while the judge waits, by the thread that called it; what it raises (the
    host's Cancel) ends all requests.
    notice: told at each call where images and prompts go, if that is another machine.
    failures, total: the images without a score, by reason, and all images, since this judge was made.
    """

    name = "judge"
    may_abstain = True

    def __init__(
        self,
        endpoint: Endpoint,
        api: Api,
        *,
        concurrency: int = 4,
        check: Callable[[], None] = lambda: None,
        notice: Callable[[str], None] = logger.warning,
    ) -> None:
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= MAX_REQUESTS:
            raise ConfigError(
                f"concurrency: {quoted(concurrency)} is not a whole number in [1, {MAX_REQUESTS}]: as many as the "
                "server answers side by side, such as 4"
            )
        if endpoint.url("").endswith(api.path):
            raise ConfigError(
                f"base_url: {quoted(endpoint.base_url)} ends in {api.path}, which is added: leave that out"
            )
        self.endpoint, self.api, self.concurrency = endpoint, api, concurrency
        self.check, self.notice = check, notice
        self.failures: Counter[str] = Counter()
        self.total = 0

    def describe(self) -> dict[str, object]:
        """The settings, for recipes; the API key is not among them."""
        return {"base_url": self.endpoint.base_url, **self.api.describe()}

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """images (N, H, W, 3) in [0, 1] and N prompts -> (N,) fp32, NaN where the judge has no opinion.

        TrainingError if there is no server, or if half of the images or more got no score.
        """
        if not self.endpoint.origin.is_loopback:
            self.notice(f"judge: images and prompts go to {self.endpoint.origin}")
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
        """Wait until all parts are done or one has raised."""
        waiting = True
        while waiting:
            self.check()
            done, waiting = wait(parts, POLL, FIRST_EXCEPTION)
            exchange.cut_overdue()
            for part in done:
                part.result()

    def _ask(self, exchange: Exchange, images: Tensor, prompts: Sequence[str]) -> list[Answer]:
        """The answers to one request, which is sent again while any of its images is without a score."""
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
            failure.reply = failure.reply or shortened(text, MAX_KEPT)
            failure.__cause__ = failure.__context__ = None  # these and the traceback hold the whole reply
            return [failure.with_traceback(None)] * count

    def _report(self, failed: Sequence[Unscored], total: int) -> None:
        """Count the failures, and log a warning; TrainingError if they are half of the images or more."""
        self.total += total
        reasons = Counter(failure.reason for failure in failed)
        self.failures += reasons
        if not failed:
            return
        counts = ", ".join(f"{reason} ({count} times)" for reason, count in reasons.most_common(3))
        worst = next(failure for failure in failed if failure.reason == reasons.most_common(1)[0][0])
        line = " ".join(worst.reply.split())
        reply = f"; a reply: {shortened(line, SHOWN)!r}" if line else ""
        address = self.endpoint.url(self.api.path)
        said = f"judge: {len(failed)} of {total} images got no score from {address}: {counts}{reply}: {worst.remedy}"
        message = self.endpoint.without_key(said)
        if 2 * len(failed) >= total:
            raise TrainingError(message)
        logger.warning(f"Pave-GRPO {message}")


def _parsed(text: str) -> Any:
    """The JSON value of a reply. Unscored if it is not JSON."""
    if not text.strip():
        raise Unscored("an empty reply", "look at the server's own log")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "a web page" if text.lstrip()[0] == "<" else "a text"
        raise Unscored(f"{kind} that is not JSON", "check base_url: it often ends in /v1") from error
