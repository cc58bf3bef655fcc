"""A person at the pack's routes: asks what is asked, and answers."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from _training_graphs import Graph, node, trained

PATIENCE = 120.0


def asking(name: str, iterations: int = 3, **person: Any) -> Graph:
    """A training whose reward is a person."""
    graph = trained(name, iterations)
    graph["reward"] = person_node(**person)
    for unused in ("colour", "clip"):
        del graph[unused]
    return graph


def person_node(**values: Any) -> dict[str, Any]:
    usual = {"at_once": 6, "learn": True, "alone_after": 0, "sure": 0.8, "begin_with": "nothing"}
    return node("PavePerson", **usual | {"checkpoint": "bundled tiny CLIP", "architecture": "auto"} | values)


class Person:
    """Talks to the routes at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def state(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/pave/person", timeout=30) as reply:
            return json.load(reply)

    def asked(self, other_than: str | None = None) -> dict[str, Any]:
        """The question that waits, once one does that has another key."""
        return until(lambda: (found := self.state()["question"]) and found["key"] != other_than and found)

    def image(self, key: str, place: int | str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(f"{self.url}/pave/person/{key}/{place}", timeout=30) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def post(self, what: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        request = urllib.request.Request(f"{self.url}/pave/person/{what}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def answer(self, question: dict[str, Any], *best: int) -> dict[str, Any]:
        """Click these images."""
        rest = [place for place in range(question["images"]) if place not in best]
        choice = {"kind": "ranked", "tiers": [list(best), rest]}
        status, state = self.post("answer", {"key": question["key"], "choice": choice})
        assert status == 200, state
        return state


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Inside, a person clicks the first image of whatever is asked."""
    over = threading.Event()
    person = Person(url)

    def answer() -> None:
        while not over.wait(0.2):
            question = person.state()["question"]
            if question is not None:
                person.answer(question, 0)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def until(found: Callable[[], Any]) -> Any:
    """What `found` gives, once it is true."""
    end = time.monotonic() + PATIENCE
    while not (value := found()):
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.05)
    return value
