"""A judge that does what it can to hold the run up, to fill memory or to get a score out of nothing.

Whatever it sends: a TrainingError that names the address, within the time limit, in little memory; and whatever text a
rule reads: a finite number, or Unscored.
"""

import gzip
import json
import math
import random
import resource
import socket
import struct
import threading
import time
import tracemalloc
import zlib

import pytest

from _judge_server import IMAGES, LATE, PROMPTS, SOON, chat, judge
from pave_core.errors import TrainingError
from pave_core.rewards.http.answers import Unscored
from pave_core.rewards.http.apis import Scorer
from pave_core.rewards.http.replies import ParseRule

TIMEOUT = 1.0
OK = b"HTTP/1.1 200 OK\r\n"
GOOD = json.dumps(chat("5")).encode()


def forever(request, piece: bytes, pause: float = 0.0) -> None:
    """Send `piece` again and again, until the judge hangs up or it is late."""
    end = time.monotonic() + LATE
    while time.monotonic() < end:
        request.raw(piece)
        request.pause(pause)


def gigabyte(request, head: bytes) -> None:
    """Send `head` and then up to a gigabyte."""
    request.raw(head)
    for _ in range(1000):
        request.raw(b" " * 1_000_000)


def begun(head: bytes, piece: bytes, pause: float = 0.0):
    """Send `head`, then `piece` without an end."""

    def behave(request):
        request.raw(head)
        forever(request, piece, pause)

    return behave


def reset(request) -> None:
    """Break the connection off in the middle of the body."""
    request.raw(OK + b"Content-Length: 100\r\n\r\n" + GOOD[:20])
    linger = struct.pack("ii", 1, 0)
    request._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request._handler.connection.close()


def bomb(encoding: str, data: bytes):
    """A reply of a few kilobytes that unpacks to many megabytes."""
    return lambda r: r.answer(data, Content_Encoding=encoding)


SLOW = {
    "silence": lambda r: r.pause(LATE),
    "trickle of headers": begun(OK, b"A: b\r\n"[:1], 0.05),
    "trickle of the body": begun(OK + b"Content-Length: 100000\r\n\r\n", b" ", 0.05),
    "tiny chunks": begun(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.01),
    "a flood of 100 Continue": begun(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001),
    "a slow trickle of 100 Continue": begun(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.2),
}
LARGE = {
    "1 GB of known length": lambda r: gigabyte(r, OK + b"Content-Length: 1000000000\r\n\r\n"),
    "1 GB of unknown length": lambda r: gigabyte(r, b"HTTP/1.0 200 OK\r\n\r\n"),
    "1 GB in a chunk": lambda r: gigabyte(r, OK + b"Transfer-Encoding: chunked\r\n\r\n3B9ACA00\r\n"),
    "a chunk of 2^62": lambda r: gigabyte(r, OK + b"Transfer-Encoding: chunked\r\n\r\n4000000000000000\r\n"),
    "a length of 2^80": lambda r: gigabyte(r, OK + b"Content-Length: 1208925819614629174706176\r\n\r\n"),
    "a flood of headers": begun(OK, b"A: b\r\n" * 100),
    "an endless header": begun(OK + b"A: ", b"b" * 10_000),
    "an endless status line": begun(b"HTTP/1.1 200 ", b"O" * 10_000),
    "an endless chunk size": begun(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * 10_000),
    "endless trailers": begun(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n", b"A: b\r\n" * 100),
    "a gzip bomb": bomb("gzip", gzip.compress(b" " * 50_000_000)),
    "a deflate bomb": bomb("deflate", zlib.compress(b"[" * 50_000_000)),
    "1 MB of empty lists": lambda r: r.answer(b"[" + b"[]," * 330_000 + b"[]]"),
    "deep lists": lambda r: r.answer(b"[" * 999_000),
    "deep and closed": lambda r: r.answer(b"[" * 490_000 + b"]" * 490_000),
    "deep objects": lambda r: r.answer(b'{"choices":' * 90_000),
    "a million digits": lambda r: r.answer(b"1" * 1_000_000),
    "digits as content": lambda r: r.say("1" * 990_000 + "x"),
    "quotes": lambda r: r.answer(b'"' * 990_000),
    "backslashes": lambda r: r.answer(b'{"choices": "' + b"\\" * 980_000),
    "many choices": lambda r: r.answer({"choices": [{}] * 240_000}),
    "many parts": lambda r: r.say([{"type": "text", "text": ""}] * 27_000),
}
OTHER = {
    "a reset in the body": reset,
    "a length too long": lambda r: r.raw(OK + b"Content-Length: 999\r\n\r\n" + GOOD),
    "a length too short": lambda r: r.raw(OK + b"Content-Length: 20\r\n\r\n" + GOOD),
    "a negative length": lambda r: r.raw(OK + b"Content-Length: -1\r\n\r\n{"),
    "NaN as content": lambda r: r.answer(b'{"choices": [{"message": {"content": NaN}}]}'),
    "the word NaN": lambda r: r.say("NaN"),
    "Infinity": lambda r: r.answer(b'{"choices": [{"message": {"content": Infinity}}]}'),
    "the last of two contents": lambda r: r.answer(b'{"choices": [{"message": {"content": "5", "content": null}}]}'),
    "a lone surrogate": lambda r: r.answer(b'{"choices": [{"message": {"content": "\\ud800"}}]}'),
    "null bytes": lambda r: r.answer(b"\0" * 1000),
    "UTF-16": lambda r: r.answer(GOOD.decode().encode("utf-16")),
    "an upgrade": lambda r: r.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" + GOOD),
    "no content": lambda r: r.raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "terminal codes": lambda r: r.answer(b"\x1b]0;owned\x07\x1b[2J", 500),
    "terminal codes in a redirect": lambda r: r.answer(b"", 302, Location="\x1b[2J\x07"),
}
TYPES = [None, True, False, 0, -1, 5, 10**400, 1e308, math.nan, math.inf, "", "5", [], [5], {}, {"a": 5}, [[]], [None]]


def megabytes() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def refused(url: str, **options) -> tuple[str, float, float]:
    """(message, seconds, megabytes) of a judge that must fail."""
    before, begin = megabytes(), time.monotonic()
    with pytest.raises(TrainingError, match=r"1 of 1 images got no score .*: .+") as error:
        judge(url, timeout=TIMEOUT, **options)(IMAGES[:1], PROMPTS[:1])
    return str(error.value), time.monotonic() - begin, megabytes() - before


@pytest.mark.parametrize("behave", SLOW.values(), ids=SLOW)
def test_a_server_that_holds_the_run_up_is_given_up_in_time(serve, behave):
    message, seconds, _ = refused(serve(behave).url)
    assert seconds < TIMEOUT + SOON
    assert "within 1 s" in message or "broken reply" in message


@pytest.mark.parametrize("behave", LARGE.values(), ids=LARGE)
def test_a_server_that_sends_without_end_fills_no_memory(serve, behave):
    message, seconds, grown = refused(serve(behave).url)
    print(f"\n{seconds:.2f} s, +{grown:.0f} MB: {message[:150]}")
    assert seconds < SOON
    assert grown < 80
    assert len(message) <= 500


@pytest.mark.parametrize("behave", OTHER.values(), ids=OTHER)
def test_what_is_no_good_reply_is_no_score_and_its_message_is_plain(serve, behave):
    message, seconds, _ = refused(serve(behave).url)
    assert seconds < TIMEOUT + SOON
    assert message.isprintable()


def test_many_large_replies_are_not_kept(serve):
    reward = judge(serve(lambda request: request.answer(b"x" * 990_000)).url, concurrency=2)
    tracemalloc.start()
    with pytest.raises(TrainingError, match="60 of 60"):
        reward(IMAGES.repeat(12, 1, 1, 1), PROMPTS * 12)
    most = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    print(f"\n60 replies of 1 MB: {most:.0f} MB at most")
    assert most < 40


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_no_redirect_is_followed(serve, status):
    elsewhere = serve(lambda request: request.say("5"))
    for place in (
        f"{elsewhere.url}/chat/completions",
        elsewhere.url.replace("http:", ""),
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "/chat/completions?again",
        "",
    ):
        server = serve(lambda request, place=place: request.answer(chat("5"), status, Location=place))
        message, _, _ = refused(server.url, retries=2)
        assert "redirects are not followed" in message
        assert len(server.requests) == 1
    assert elsewhere.requests == []


def test_every_wrong_type_at_every_place_is_no_score(serve):
    def places(value):
        yield value
        yield {"choices": value}
        yield {"choices": [value]}
        yield {"choices": [{"message": value}]}
        yield {"choices": [{"message": {"content": value}}]}
        yield {"choices": [{"message": {"content": [value]}}]}
        yield {"choices": [{"message": {"content": [{"type": "text", "text": value}]}}]}
        yield {"choices": [{"message": {"content": [{"type": value, "text": "x"}]}}]}
        yield {"scores": value}
        yield {"scores": [value]}

    given = [0]
    replies = [reply for value in TYPES for reply in places(value)]
    server = serve(lambda request: request.answer(replies[given[0]]))
    scored = 0
    for given[0] in range(len(replies)):
        for api in (None, Scorer()):
            try:
                score = judge(server.url, api=api)(IMAGES[:1], PROMPTS[:1]).item()
            except TrainingError:
                continue
            assert math.isfinite(score), replies[given[0]]
            scored += 1
    print(f"\n{2 * len(replies)} replies, {scored} of them scores, the others errors with a remedy")
    assert 0 < scored < 20


RULES = [
    ParseRule(),
    ParseRule("final score"),
    ParseRule("json key", "score"),
    ParseRule("json key", "a.score"),
    ParseRule("regex", r"Score: ([-+\d.eE]*)"),
    ParseRule("regex", r"(.*)"),
]
WORDS = [
    *(
        "Final Score",
        "final  score",
        "Score: ",
        ":",
        "=",
        "(1-5)",
        "5",
        "1",
        "0",
        "-",
        "–",
        ".",
        ",",
        "/",
        " / ",
        " of ",
    ),
    *("out of", "1e999", "1e38", "-1e39", "٣", "²", "½", "NaN", "Infinity", '{"score": ', '{"a": {"score": ', "}", "{"),
    *("[", "]", '"', "\\", "null", "true", "<think>", "</think>", "\n", "\t", " ", "\0", "\ud800", "\u202e", "é", "x"),
    *("9" * 30, "1" * 5000, " " * 500, "0x1", "1_0", "+", "**", "```json", "\u2028", "7.5"),
]


FOREVER = 60
"""Seconds of the processor: a rule whose time grows with the text's length takes 0.3 s for the longest text here, and
some seconds on a slow machine; one whose time grows with the square of it takes hours."""


def read(rule: ParseRule, text: str) -> float | Unscored:
    """What `rule` makes of `text`, and not forever."""
    begin = time.process_time()
    try:
        value = rule(text)
    except Unscored as failure:
        value = failure
    if isinstance(value, Unscored):
        assert value.reason
        assert value.remedy
    else:
        assert math.isfinite(value), (rule, text)
    assert time.process_time() - begin < FOREVER, (rule, text[:80])
    return value


def test_whatever_a_rule_reads_is_a_finite_number_or_no_score():
    draw = random.Random(11)
    counts = {"scores": 0, "no score": 0}
    for _ in range(3_000):
        text = "".join(draw.choice(WORDS) for _ in range(draw.randint(0, 25)))
        for rule in RULES:
            counts["no score" if isinstance(read(rule, text), Unscored) else "scores"] += 1
    print(f"\n{counts}")
    assert min(counts.values()) > 100


LONG = [
    *(
        "1",
        "1 ",
        " ",
        "1.",
        ".",
        "-",
        "1-",
        "/",
        "/ ",
        "of ",
        "1 of ",
        "out of ",
        "out ",
        "out  of" + " " * 50,
        "final ",
    ),
    *("final score", "final score: 1", "final score" + " " * 50, "final score(", "final score (((", "final\tscore:"),
    *("final score:::::", "final score: 1 out of", "final score: 1" + " " * 60, "1e", "1e+", "e1", "+1", "1,"),
    *("1" * 999 + "x", "{", '{"', '{"a":', '{"score":', '{"score":1', "[", "[[{", '{"a":[', "\\", '"\\', "\n"),
    *("</think>", "<think>", "é", "٣"),
]


def test_no_rule_of_ours_takes_long_on_a_reply_made_for_it():
    slowest = (0.0, "")
    for piece in LONG:
        for size in (4_000, 100_000, 3_900_000):
            long = piece * (size // len(piece))
            for text in (long, f"{long}x", f"1{long}"):
                for rule in RULES[:4]:
                    begin = time.process_time()
                    read(rule, text)
                    slowest = max(slowest, (time.process_time() - begin, f"{rule.kind}: {size} of {piece[:20]!r}"))
    print(f"\nthe slowest: {slowest[0]:.3f} s, {slowest[1]}")


def test_threads_end_with_the_call(serve):
    server = serve(SLOW["trickle of the body"])
    for _ in range(3):
        refused(server.url, concurrency=8)
    deadline = time.monotonic() + SOON
    while any(thread.name.startswith("pave-judge") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "its threads live on"
        time.sleep(0.02)
