"""The judge against real HTTP servers on the loopback interface: good, slow, broken and hostile ones."""

import base64
import http.server
import io
import json
import logging
import math
import re
import socket
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from pave_core.errors import ConfigError, TrainingError
from pave_core.rewards.http.answers import Unscored
from pave_core.rewards.http.apis import Chat, Scorer
from pave_core.rewards.http.endpoint import Endpoint
from pave_core.rewards.http.exchange import MAX_REPLY
from pave_core.rewards.http.replies import ParseRule
from pave_core.rewards.judge import Judge

IMAGES = torch.stack([torch.full((8, 12, 3), level) for level in (0.0, 0.25, 0.5, 0.75, 1.0)])
PROMPTS = ["zero", "one", "two", "three", "four"]


class Request:
    """What the server was sent, and how to answer it."""

    def __init__(self, handler):
        self._handler = handler
        self.path, self.headers = handler.path, handler.headers
        self.body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))

    @property
    def text(self) -> str:
        """The words of a chat."""
        return self.body["messages"][0]["content"][1]["text"]

    @property
    def image(self) -> np.ndarray:
        """The picture of a chat."""
        head, data = self.body["messages"][0]["content"][0]["image_url"]["url"].split(",")
        assert head == "data:image/png;base64"
        return decoded(data)

    def raw(self, data: bytes) -> None:
        """These bytes and nothing else."""
        self._handler.wfile.write(data)

    def answer(self, body, status: int = 200, **headers: str) -> None:
        """A whole HTTP reply."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [
            f"HTTP/1.1 {status} x",
            f"Content-Length: {len(data)}",
            *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
        ]
        self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    def say(self, content) -> None:
        """A good reply of a chat."""
        self.answer(chat(content))


def chat(content) -> dict:
    return {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]}


def decoded(data: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))


class Server:
    """A server that answers with `behave`; it keeps the requests and how many were under way at once."""

    def __init__(self, behave):
        self.requests, self.most, self._now, self._lock = [], 0, 0, threading.Lock()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                request = Request(self)
                with server._lock:
                    server.requests.append(request)
                    server._now += 1
                    server.most = max(server.most, server._now)
                try:
                    behave(request)
                except OSError:  # the judge has hung up
                    pass
                finally:
                    with server._lock:
                        server._now -= 1
                self.close_connection = True

            def log_message(self, *args):
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def serve():
    """serve(behave) -> a Server; behave(request) answers."""
    servers = []

    def start(behave):
        servers.append(Server(behave))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def judge(url, rule=None, api=None, **options):
    endpoint = {
        name: options.pop(name) for name in ("timeout", "retries", "key_variable", "allow_remote") if name in options
    }
    made = Endpoint(url, **({"timeout": 5.0, "retries": 0, "back_off": 0.01} | endpoint))
    return Judge(made, api or Chat(rule=rule or ParseRule()), **options)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_chat_is_asked_as_openai_says_and_scores_keep_the_images_order(serve):
    def behave(request):
        time.sleep(0.2 + 0.05 * (4 - PROMPTS.index(request.text.split()[-1])))  # the first image is answered last
        request.say(f"I see grey {request.image[0, 0, 0]}, so: {request.image[0, 0, 0] / 10}")

    server = serve(behave)
    scores = judge(
        f"{server.url}/v1", api=Chat("my-model", "Rate {prompt} {0} {prompt}", max_tokens=77), concurrency=5
    )(IMAGES, PROMPTS)
    assert scores.tolist() == pytest.approx([0, 6.4, 12.8, 19.1, 25.5])
    assert server.most == 5
    first = next(r for r in server.requests if r.text == "Rate zero {0} zero")
    assert (first.path, first.body["model"], first.body["temperature"], first.body["max_tokens"]) == (
        "/v1/chat/completions",
        "my-model",
        0,
        77,
    )
    assert first.image.shape == (8, 12, 3)
    assert "Authorization" not in first.headers


def test_no_more_requests_than_allowed_are_under_way_at_once(serve):
    def behave(request):
        time.sleep(0.03)
        request.say("1")

    server = serve(behave)
    judge(server.url, concurrency=2)(IMAGES, PROMPTS)
    assert server.most == 2


def test_a_scorer_gets_batches_and_its_scores_keep_their_order(serve):
    def behave(request):
        levels = [int(decoded(image)[0, 0, 0]) for image in request.body["images"]]
        time.sleep(0.1 if levels[0] == 0 else 0)
        request.answer({"scores": [-level for level in levels], "time": 3})

    server = serve(behave)
    scores = judge(server.url, api=Scorer(2), concurrency=3)(IMAGES, PROMPTS)
    assert scores.tolist() == [0, -64, -128, -191, -255]
    assert {r.path for r in server.requests} == {"/score"}
    assert sorted(r.body["prompts"] for r in server.requests) == [["four"], ["two", "three"], ["zero", "one"]]


def test_one_good_answer_in_three_is_enough_with_two_retries(serve, caplog):
    tries = {}

    def behave(request):
        tries[request.text] = tries.get(request.text, 0) + 1
        if tries[request.text] == 1:
            request.answer({"error": "busy"}, 500)
        elif tries[request.text] == 2:
            request.say("I would rather not")
        else:
            request.say(f"{request.image[0, 0, 0]}")

    reward = judge(serve(behave).url, retries=2)
    assert reward(IMAGES, PROMPTS).tolist() == [0, 64, 128, 191, 255]
    assert set(tries.values()) == {3}
    assert (reward.failures, reward.total) == ({}, 5)
    assert caplog.records == []


def test_a_minority_without_a_score_abstains_is_counted_and_is_logged_once(serve, caplog):
    server = serve(lambda request: request.say("no idea" if request.text.endswith(("one", "four")) else "3"))
    reward = judge(server.url, api=Chat(instruction="{prompt}"), retries=1)
    with caplog.at_level(logging.WARNING, "pave"):
        scores = reward(IMAGES, PROMPTS)
    assert [math.isnan(s) for s in scores.tolist()] == [False, True, False, False, True]
    assert scores.nansum() == 9
    assert reward.may_abstain
    assert reward.failures == {"no plain number in the reply": 2}
    assert reward.total == 5
    assert len(server.requests) == 7
    (record,) = caplog.records
    assert "2 of 5 images got no score" in record.message
    assert f"{server.url}/chat/completions" in record.message
    assert "no idea" in record.message


def test_half_without_a_score_ends_the_run(serve):
    server = serve(lambda request: request.say("no idea " * 100 if request.text in ("one", "two") else "3"))
    reward = judge(server.url, api=Chat(instruction="{prompt}"))
    with pytest.raises(TrainingError, match=r"2 of 4 images .*no plain number in the reply \(2 times\)") as error:
        reward(IMAGES[:4], PROMPTS[:4])
    assert len(str(error.value)) < 700
    assert "ask in the instruction for a number alone" in str(error.value)


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


def test_one_image_that_a_scorer_can_not_score_does_not_spoil_its_batch(serve):
    server = serve(lambda request: request.answer({"scores": [1, None, 3]}))
    reward = judge(server.url, api=Scorer(3))
    assert reward(IMAGES[:3], PROMPTS[:3]).nan_to_num(-9).tolist() == [1, -9, 3]
    assert reward.failures == {"no score for an image": 1}


def test_what_can_not_get_better_is_not_asked_again_and_what_can_is(serve):
    for status, asked in ((400, 1), (401, 1), (404, 1), (307, 1), (408, 4), (429, 4), (500, 4), (503, 4)):
        server = serve(lambda request, status=status: request.answer({}, status))
        with pytest.raises(TrainingError, match=f"HTTP {status}"):
            judge(server.url, retries=3)(IMAGES[:1], PROMPTS[:1])
        assert len(server.requests) == asked, status


def test_a_redirect_is_not_followed(serve):
    elsewhere = serve(lambda request: request.say("5"))
    server = serve(lambda request: request.answer(b"", 307, Location=f"{elsewhere.url}/chat/completions"))
    with pytest.raises(
        TrainingError, match=f"HTTP 307, a redirect to {elsewhere.url}.*give the address itself as base_url"
    ):
        judge(server.url)(IMAGES[:1], PROMPTS[:1])
    assert elsewhere.requests == []


def test_a_server_that_asks_for_patience_gets_it(serve):
    times = []

    def behave(request):
        times.append(time.monotonic())
        request.answer({}, 429, Retry_After="1") if len(times) == 1 else request.say("4")

    assert judge(serve(behave).url, retries=1)(IMAGES[:1], PROMPTS[:1]).item() == 4
    assert 1.0 <= times[1] - times[0] < 3.0


def test_a_date_or_nonsense_in_retry_after_does_not_matter(serve):
    for asked in ("Wed, 21 Oct 2037 07:28:00 GMT", "-5", "soon", "1e9", "9" * 50):
        server = serve(lambda request, asked=asked: request.answer({}, 429, Retry_After=asked))
        begin = time.monotonic()
        with pytest.raises(TrainingError, match="HTTP 429"):
            judge(server.url, retries=1)(IMAGES[:1], PROMPTS[:1])
        assert time.monotonic() - begin < 2


def silent(request):
    time.sleep(4)


def trickle(request):
    request.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(40):
        request.raw(b" ")
        time.sleep(0.1)


def trickle_headers(request):
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n":
        request.raw(bytes([byte]))
        time.sleep(0.1)


@pytest.mark.parametrize("behave", [silent, trickle, trickle_headers])
def test_a_slow_server_is_given_up_in_time_however_it_is_slow(serve, behave):
    server = serve(behave)
    begin = time.monotonic()
    with pytest.raises(TrainingError, match=r"no reply within 0\.4 s .*raise timeout"):
        judge(server.url, timeout=0.4)(IMAGES[:1], PROMPTS[:1])
    assert time.monotonic() - begin < 1.5


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_no_server_is_said_at_once(host):
    begin = time.monotonic()
    with pytest.raises(
        TrainingError, match=rf"there is no server at http://{re.escape(host)}:.*: start it, or correct base_url"
    ):
        judge(f"http://{host}:{closed_port()}", retries=5)(IMAGES, PROMPTS)
    assert time.monotonic() - begin < 1


def test_tls_with_a_server_that_has_none_is_said(serve):
    server = serve(lambda request: request.say("5"))
    with pytest.raises(TrainingError, match=r"does not speak TLS \(.+\): use http://"):
        judge(server.url.replace("http:", "https:"))(IMAGES[:1], PROMPTS[:1])


class CancelledError(Exception):
    pass


@pytest.mark.parametrize("behave", [silent, trickle, lambda request: request.answer({}, 429, Retry_After="20")])
def test_cancel_does_not_wait_for_the_server(serve, behave):
    server = serve(behave)
    begin = time.monotonic()

    def check():
        if time.monotonic() - begin > 0.3:
            raise CancelledError

    with pytest.raises(CancelledError):
        judge(server.url, timeout=60, retries=3, concurrency=2, check=check)(IMAGES, PROMPTS)
    assert time.monotonic() - begin < 1
    deadline = time.monotonic() + 2
    while any(thread.name.startswith("pave-judge") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "its threads live on"
        time.sleep(0.02)
    assert len(server.requests) == 2


REMOTE = [
    "http://10.0.0.1:8000/v1",
    "http://192.168.1.5:8000",
    "http://example.org",
    "https://example.org/v1",
    "http://localhost.evil.org",
    "http://127.0.0.1.evil.org",
    "http://[2001:db8::1]:8000/v1",
    "http://[::ffff:10.0.0.1]/v1",
    "http://[fe80::1]/v1",
    "http://2130706433/v1",
    "http://0x7f000001/v1",
    "http://0177.0.0.1/v1",
    "http://127.1/v1",
    "http://127.0.0.1%2eevil.org/v1",
    "http://0.0.0.0:8000",
    "http://169.254.169.254/latest",
    "http://localhost.:8000",
]
MALFORMED = [
    "http://127.0.0.1@evil.org/v1",
    "http://user:secret@127.0.0.1/v1",
    "http://127.0.0.1:8000/v1?key=secret",
    "http://127.0.0.1:8000/v1#top",
    "http://127.0.0.1:8000/v1?",
    "http://evil.org\\@127.0.0.1/v1",
    "http://127.0.0.1\t.evil.org/v1",
    "http://127.0.0.1:8000/v1\r\nHost: evil.org",
    "http://ⅼocalhost/v1",
    "http:// 127.0.0.1/v1",
    "http://127.0.0.1:99999",
    "http://127.0.0.1:0",
    "http://127.0.0.1:eighty",
    "http://[::1/v1",
    "http://[localhost]/v1",
    "http:///v1",
    "127.0.0.1:8000/v1",
    "//127.0.0.1/v1",
    "file:///etc/passwd",
    "ftp://127.0.0.1",
    "",
]


@pytest.fixture
def no_network(monkeypatch):
    """A connection or a look-up of a name is a failure of the test."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"a connection was made: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.mark.parametrize("url", REMOTE)
def test_another_machine_is_refused_without_the_switch_and_taken_with_it(no_network, url):
    with pytest.raises(ConfigError, match="base_url: .*not on this machine: .*allow_remote"):
        Endpoint(url)
    assert Endpoint(url, allow_remote=True).base_url == url


@pytest.mark.parametrize("url", MALFORMED)
@pytest.mark.parametrize("allow_remote", [False, True])
def test_what_is_no_address_is_refused_in_any_case(no_network, url, allow_remote):
    with pytest.raises(ConfigError, match="base_url: .*: (write it as|leave those out)"):
        Endpoint(url, allow_remote)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "http://127.8.9.1:8000/v1/",
        "http://[::1]:8000/v1",
        "HTTP://LOCALHOST:1/",
        "https://localhost/a/b",
    ],
)
def test_this_machine_is_taken(no_network, url):
    assert Endpoint(url).base_url == url


def test_a_name_that_only_looks_like_this_machine_is_found_out(serve, monkeypatch):
    server = serve(lambda request: request.say("5"))
    port = int(server.url.rpartition(":")[2])
    monkeypatch.setattr("pave_core.rewards.http.exchange.is_loopback", lambda host: host == "localhost")
    with pytest.raises(TrainingError, match="localhost of .* is another machine"):
        judge(f"http://localhost:{port}")(IMAGES[:1], PROMPTS[:1])
    assert server.requests == []


def test_proxies_of_the_environment_are_not_used(serve, monkeypatch):
    proxy = serve(lambda request: request.say("1"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy.url)
    server = serve(lambda request: request.say("5"))
    assert judge(server.url)(IMAGES[:1], PROMPTS[:1]).item() == 5
    assert proxy.requests == []


def test_the_key_comes_from_the_environment_and_is_in_no_recipe_and_no_message(serve, monkeypatch):
    monkeypatch.setenv("PAVE_JUDGE_KEY", "sk-very-secret")
    server = serve(lambda request: request.answer({"error": "wrong key sk-very-secret"}, 401))
    reward = judge(server.url, key_variable="PAVE_JUDGE_KEY")
    with pytest.raises(TrainingError, match=r"HTTP 401 .*wrong key \*\*\*.*check the key") as error:
        reward(IMAGES[:1], PROMPTS[:1])
    assert server.requests[0].headers["Authorization"] == "Bearer sk-very-secret"
    assert "secret" not in str(error.value)
    assert "secret" not in json.dumps(reward.describe())


@pytest.mark.parametrize(
    ("name", "value"),
    [("PAVE_NOT_SET", None), ("PAVE_KEY", ""), ("PAVE_KEY", "a\r\nHost: b"), ("PAVE_KEY", "schlüssel")],
)
def test_a_variable_without_a_key_is_refused(monkeypatch, name, value):
    if value is not None:
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"key_variable: {name} holds no API key .*: set it"):
        Endpoint("http://127.0.0.1", key_variable=name)


@pytest.mark.parametrize("name", ["HF_TOKEN", "PATH", "sk-1234", "PAVE_", "pave_key", "PAVE_KEY\n", "XPAVE_KEY"])
def test_no_other_secret_of_the_environment_can_be_sent(monkeypatch, name):
    with pytest.raises(ConfigError, match="key_variable: .*PAVE_JUDGE_KEY"):
        Endpoint("http://127.0.0.1", key_variable=name)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Endpoint("http://127.0.0.1", timeout=0), "timeout"),
        (lambda: Endpoint("http://127.0.0.1", timeout=math.inf), "timeout"),
        (lambda: Endpoint("http://127.0.0.1", timeout=math.nan), "timeout"),
        (lambda: Endpoint("http://127.0.0.1", retries=-1), "retries"),
        (lambda: Endpoint("http://127.0.0.1", retries=21), "retries"),
        (lambda: judge("http://127.0.0.1", concurrency=0), "concurrency"),
        (lambda: judge("http://127.0.0.1", concurrency=65), "concurrency"),
        (lambda: judge("http://127.0.0.1/v1/chat/completions"), "base_url"),
        (lambda: judge("http://127.0.0.1/score/", api=Scorer()), "base_url"),
        (lambda: Chat(model=" "), "model"),
        (lambda: Chat(instruction="\n"), "instruction"),
        (lambda: Chat(max_tokens=0), "max_tokens"),
        (lambda: Scorer(0), "batch_size"),
        (lambda: ParseRule("guess"), "parse"),  # pyright: ignore[reportArgumentType]
        (lambda: ParseRule("json key", ""), "pattern"),
        (lambda: ParseRule("json key", "a..b"), "pattern"),
        (lambda: ParseRule("regex", ""), "pattern"),
        (lambda: ParseRule("regex", "Score: \\d+"), "pattern"),
        (lambda: ParseRule("regex", "(\\d+)/(\\d+)"), "pattern"),
        (lambda: ParseRule("regex", "Score: (\\d+"), "pattern"),
        (lambda: ParseRule("regex", "(a+)+b"), "pattern"),
        (lambda: ParseRule("regex", "(?:(?:a|b)x)*(c)"), "pattern"),
        (lambda: ParseRule("regex", "((?:\\d+,?)*)"), "pattern"),
        (lambda: ParseRule("regex", "(?:a{2,}){2,}(\\d)"), "pattern"),
    ],
)
def test_settings_that_can_not_work_are_refused(no_network, make, field):
    with pytest.raises(ConfigError, match=rf"^{field}: .*: .+"):
        make()


READ = [
    (ParseRule(), "7", 7),
    (ParseRule(), "-3.5", -3.5),
    (ParseRule(), ".5", 0.5),
    (ParseRule(), "1e-2", 0.01),
    (ParseRule(), "**8.5**", 8.5),
    (ParseRule(), "Score: 8.", 8),
    (ParseRule(), "I count 3 cats and give it a score of 6", 6),
    (ParseRule(), "On a scale (1-10): 9", 9),
    (ParseRule(), "85%", 85),
    (ParseRule(), "<think>maybe 3, or 4</think>\n\n9", 9),
    (ParseRule(), "word " * 5000 + "4", 4),
    (ParseRule("final score"), "Good. Final Score: 4", 0.8),
    (ParseRule("final score"), "**Final Score:** 3.75", 0.75),
    (ParseRule("final score"), "final score (1-5): **5/5**", 1.0),
    (ParseRule("final score"), "Final Score: 1 is the worst. Final Score = 2 out of 5.", 0.4),
    (ParseRule("final score"), "Alignment: 9/10\nFinal Score: 4 - well done", 0.8),
    (ParseRule("json key", "score"), '{"score": 7.5}', 7.5),
    (ParseRule("json key", "score"), 'Sure!\n```json\n{"why": "{red} is not blue", "score": 2}\n```', 2),
    (ParseRule("json key", "score"), '{"score": " 6.5 "}', 6.5),
    (ParseRule("json key", "result.score"), '{broken {"result": {"score": 0}}', 0),
    (
        ParseRule("regex", r"Alignment Score \(1-5\): ([\d.]+)"),
        "Alignment Score (1-5): 4.25\nStyle Score (1-5): 2",
        4.25,
    ),
    (ParseRule("regex", r"(?i)rating[:= ]*(-?\d+(?:\.\d+)?)"), "RATING: -2.5 of 10", -2.5),
]


@pytest.mark.parametrize(("rule", "text", "score"), READ)
def test_a_rule_reads_the_score(rule, text, score):
    assert rule(text) == pytest.approx(score)


REFUSED = [
    (ParseRule("final score"), "4"),
    (ParseRule("final score"), "Final Score: 6"),
    (ParseRule("final score"), "Final Score: 0"),
    (ParseRule("final score"), "Final Score: -3"),
    (ParseRule("final score"), "Final Score: 4/10"),
    (ParseRule("final score"), "Final Score: 4 / 10"),
    (ParseRule("final score"), "Final Score: 4 out of 10"),
    (ParseRule("final score"), "Final Score: 45"),
    (ParseRule("final score"), "Final Score: 1-5"),
    (ParseRule("final score"), "Final Score: 3,5"),
    (ParseRule("final score"), "Final Score: four"),
    (ParseRule("json key", "score"), "7.5"),
    (ParseRule("json key", "score"), '{"rating": 7.5}'),
    (ParseRule("json key", "score"), '{"score": null}'),
    (ParseRule("json key", "score"), '{"score": true}'),
    (ParseRule("json key", "score"), '{"score": [7]}'),
    (ParseRule("json key", "score"), '{"score": "high"}'),
    (ParseRule("json key", "score"), '{"score": "1_0"}'),
    (ParseRule("json key", "score"), '{"score": NaN}'),
    (ParseRule("json key", "score"), '{"score": Infinity}'),
    (ParseRule("json key", "score"), '{"score": 1e999}'),
    (ParseRule("json key", "score"), '{"score": "1e999"}'),
    (ParseRule("json key", "score"), '{"score": 1' + "0" * 400 + "}"),
    (ParseRule("json key", "score"), '{"score": 7'),
    (ParseRule("json key", "a.b"), '{"a": 7}'),
    (ParseRule("json key", "score"), "{" * 10_000),
    (ParseRule("json key", "score"), '{"a":' * 50_000 + "1" + "}" * 50_000),
    (ParseRule("regex", "Score: (\\d+)"), "score is 7"),
    (ParseRule("regex", "Score: (.*)"), "Score: seven"),
    (ParseRule("regex", "Score:(\\d*)"), "Score: 7"),
    (ParseRule("regex", "Score: (?:x|(\\d))"), "Score: x"),
    (ParseRule("regex", "(.+)"), "1e999"),
]


@pytest.mark.parametrize(("rule", "text"), REFUSED)
def test_a_rule_refuses_rather_than_guesses(rule, text):
    begin = time.monotonic()
    with pytest.raises(Unscored) as refusal:
        rule(text)
    assert refusal.value.reason
    assert refusal.value.remedy
    assert time.monotonic() - begin < 1


def test_parts_of_text_are_joined(serve):
    server = serve(lambda request: request.say([{"type": "text", "text": "Score: "}, {"type": "text", "text": "4.5"}]))
    assert judge(server.url)(IMAGES[:1], PROMPTS[:1]).item() == 4.5


def test_a_recipe_has_the_judges_settings():
    described = judge("http://127.0.0.1:1/v1", ParseRule("json key", "a.b")).describe()
    assert json.loads(json.dumps(described))["rule"] == {"kind": "json key", "pattern": "a.b"}
    assert described["base_url"] == "http://127.0.0.1:1/v1"
    assert judge("http://127.0.0.1:1", api=Scorer()).describe() == {"base_url": "http://127.0.0.1:1", "api": "scores"}
