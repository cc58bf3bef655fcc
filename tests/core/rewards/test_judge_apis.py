"""Replies of both APIs that hold no score: broken HTTP, other JSON, other content."""

import json
import math

import pytest

from _judge_server import IMAGES, PROMPTS, chat, judge
from pave_core.errors import ConfigError, TrainingError
from pave_core.rewards.http.apis import Chat, Scorer
from pave_core.rewards.http.exchange import MAX_REPLY


def cut(request):
    request.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + json.dumps(chat("5")).encode())


def cut_chunks(request):
    request.raw(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"cho')


def cut_without_length(request):
    request.raw(b'HTTP/1.0 200 OK\r\n\r\n{"choices": [{"message": {"content": "5')


BROKEN = {
    "closes at once": lambda r: None,
    "closes in the status line": lambda r: r.raw(b"HTT"),
    "closes in the headers": lambda r: r.raw(b"HTTP/1.1 200 OK\r\nContent-"),
    "closes in the body": cut,
    "closes in a chunk": cut_chunks,
    "closes a body of unknown length": cut_without_length,
    "a length that is too short": lambda r: r.raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + json.dumps(chat("5")).encode()
    ),
    "a length that is no number": lambda r: r.raw(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nfive"),
    "a chunk size that is no number": lambda r: r.raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nfive"
    ),
    "no HTTP": lambda r: r.raw(b"220 mail.example.org ESMTP\r\n"),
    "endless headers": lambda r: r.raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n"),
    "an endless header": lambda r: r.raw(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 200_000),
    "a web page": lambda r: r.answer(b"<!DOCTYPE html><html>Welcome to nginx</html>"),
    "nothing": lambda r: r.answer(b""),
    "white space": lambda r: r.answer(b" \r\n"),
    "words": lambda r: r.answer(b"Internal Server Error"),
    "bytes": lambda r: r.answer(b"\x1f\x8b\x08\x00\xff\xfe"),
    "a part of JSON": lambda r: r.answer(b'{"choices": ['),
    "nested JSON": lambda r: r.answer(b"[" * 200_000),
    "a number with a million digits": lambda r: r.answer(b"1" * 1_000_000),
    "too much": lambda r: r.answer(b" " * (MAX_REPLY + 10)),
    "too much without a length": lambda r: r.raw(b"HTTP/1.0 200 OK\r\n\r\n" + b" " * (MAX_REPLY + 10)),
    "a length that is too much": lambda r: r.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n "),
    "null": lambda r: r.answer(None),
    "a list": lambda r: r.answer([1, 2]),
    "a bare number": lambda r: r.answer(5),
    "an error in the body": lambda r: r.answer({"error": {"message": "model not loaded"}}),
    "no choices": lambda r: r.answer({"choices": []}),
    "choices that are null": lambda r: r.answer({"choices": None}),
    "choices that are words": lambda r: r.answer({"choices": "five"}),
    "a choice without a message": lambda r: r.answer({"choices": [{"text": "5"}]}),
    "a message without content": lambda r: r.answer({"choices": [{"message": {"role": "assistant"}}]}),
    "content that is null": lambda r: r.say(None),
    "content that is empty": lambda r: r.say(""),
    "content that is a number": lambda r: r.say(5),
    "content that is a dictionary": lambda r: r.say({"score": 5}),
    "content that is a picture": lambda r: r.say([{"type": "image_url", "image_url": {"url": "x"}}]),
    "content of strange parts": lambda r: r.say([5, None]),
    "white space as content": lambda r: r.say(" \n\t"),
    "reasoning without an end": lambda r: r.say("<think>the sky is blue, so 7"),
    "a reply cut off at max_tokens": lambda r: r.answer(
        {"choices": [{"message": {"content": "Score: 8"}, "finish_reason": "length"}]}
    ),
    "a choice that is a list": lambda r: r.answer({"choices": [[]]}),
    "reasoning without an answer": lambda r: r.say("<think>maybe 7</think>\n"),
    "number words": lambda r: r.say("eight and a half"),
    "nan": lambda r: r.say("NaN"),
    "infinity": lambda r: r.say("inf"),
    "a number too large": lambda r: r.say("1e999"),
    "a number too large for fp32": lambda r: r.say("1e39"),
    "a fraction": lambda r: r.say("8/10"),
    "a spaced fraction": lambda r: r.say("Score: 8 / 10"),
    "a fraction in words": lambda r: r.say("8 out of 10"),
    "a range": lambda r: r.say("7-8"),
    "a range with a dash": lambda r: r.say("between 7–8"),
    "thousands": lambda r: r.say("1,000"),
    "a comma for a point": lambda r: r.say("7,5"),
    "a version": lambda r: r.say("I am version 1.2.3"),
    "a number before a name": lambda r: r.say("8, says gpt4"),
    "HTTP 400": lambda r: r.answer({"error": "bad image"}, 400),
    "HTTP 401": lambda r: r.answer({"error": "no key"}, 401),
    "HTTP 404": lambda r: r.answer(b"<h1>not here</h1>", 404),
    "HTTP 429": lambda r: r.answer({}, 429, Retry_After="0"),
    "HTTP 500": lambda r: r.answer(b"Traceback (most recent call last)", 500),
    "HTTP 503 with a good body": lambda r: r.answer(chat("5"), 503),
    "HTTP 302": lambda r: r.answer(chat("5"), 302, Location="http://127.0.0.1:9/else"),
    "HTTP 999": lambda r: r.answer(chat("5"), 999),
}


@pytest.mark.parametrize("behave", BROKEN.values(), ids=BROKEN)
def test_what_is_no_score_is_an_error_that_names_the_address_and_a_remedy(serve, behave):
    server = serve(behave)
    with pytest.raises(TrainingError, match=r"1 of 1 images got no score") as error:
        judge(f"{server.url}/v1", retries=1)(IMAGES[:1], PROMPTS[:1])
    message = str(error.value)
    assert f"{server.url}/v1/chat/completions" in message
    assert message.rpartition(": ")[2], "there is no remedy"
    assert len(message) < 800
    assert "\n" not in message


SCORES = {
    "null": None,
    "a list": [1.0, 2.0],
    "other key": {"score": [1.0, 2.0]},
    "null scores": {"scores": None},
    "a number": {"scores": 1.0},
    "a dictionary": {"scores": {"0": 1.0, "1": 2.0}},
    "words": {"scores": "1 2"},
    "too few": {"scores": [1.0]},
    "too many": {"scores": [1.0, 2.0, 3.0]},
    "strings": {"scores": ["1", "2"]},
    "truth": {"scores": [True, False]},
    "pairs": {"scores": [[1.0, 0.1], [2.0, 0.1]]},
    "nulls": {"scores": [None, None]},
    "nan": {"scores": [math.nan, math.nan]},
    "infinity": {"scores": [math.inf, -math.inf]},
    "huge": {"scores": [10**400, -(10**400)]},
}


@pytest.mark.parametrize("reply", SCORES.values(), ids=SCORES)
def test_a_scorers_malformed_reply_is_an_error(serve, reply):
    server = serve(lambda request: request.answer(reply))
    with pytest.raises(TrainingError, match=rf"2 of 2 images got no score from {server.url}/score: .*: .+"):
        judge(server.url, api=Scorer())(IMAGES[:2], PROMPTS[:2])


def test_parts_of_text_are_joined(serve):
    server = serve(lambda request: request.say([{"type": "text", "text": "Score: "}, {"type": "text", "text": "4.5"}]))
    assert judge(server.url)(IMAGES[:1], PROMPTS[:1]).item() == 4.5


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Chat(model=" "), "model"),
        (lambda: Chat(instruction="\n"), "instruction"),
        (lambda: Chat(max_tokens=0), "max_tokens"),
        (lambda: Chat(max_tokens=10**18), "max_tokens"),
        (lambda: Chat(max_tokens=1.5), "max_tokens"),  # pyright: ignore[reportArgumentType]
        (lambda: Chat(model="m" * 201), "model"),
        (lambda: Chat(model=None), "model"),  # pyright: ignore[reportArgumentType]
        (lambda: Chat(instruction="{prompt}" * 3000), "instruction"),
        (lambda: Scorer(0), "batch_size"),
        (lambda: Scorer(257), "batch_size"),
        (lambda: Scorer(True), "batch_size"),
    ],
)
def test_settings_that_cannot_work_are_refused(no_network, make, field):
    with pytest.raises(ConfigError, match=rf"^{field}: .+"):
        make()


def test_a_long_prompt_named_often_does_not_become_gigabytes(no_network):
    api = Chat(instruction="{prompt}" * 2000)
    with pytest.raises(TrainingError, match=r"^instruction: .*2000016000 characters: .*shorten"):
        api.ask(IMAGES[:1], ["p" * 1_000_000])
