"""The exchange with a server that is slow, absent, far away or asks for patience, and the key that it is sent."""

import json
import re
import time

import pytest

from _judge_server import IMAGES, PROMPTS, SOON, chat, closed_port, judge, silent, trickle, trickle_headers
from pave_core.errors import TrainingError


def test_a_redirect_is_not_followed(serve):
    elsewhere = serve(lambda request: request.say("5"))
    server = serve(lambda request: request.answer(b"", 307, Location=f"{elsewhere.url}/chat/completions"))
    with pytest.raises(
        TrainingError, match=f"HTTP 307, a redirect to '{elsewhere.url}.*give the address itself as base_url"
    ):
        judge(server.url)(IMAGES[:1], PROMPTS[:1])
    assert elsewhere.requests == []


def test_a_server_that_asks_for_patience_gets_it(serve):
    times = []

    def behave(request):
        times.append(time.monotonic())
        request.answer({}, 429, Retry_After="1") if len(times) == 1 else request.say("4")

    assert judge(serve(behave).url, retries=1)(IMAGES[:1], PROMPTS[:1]).item() == 4
    assert 1.0 <= times[1] - times[0] < SOON


def test_a_date_or_nonsense_in_retry_after_does_not_matter(serve):
    for asked in ("Wed, 21 Oct 2037 07:28:00 GMT", "-5", "soon", "1e9", "9" * 50):
        server = serve(lambda request, asked=asked: request.answer({}, 429, Retry_After=asked))
        begin = time.monotonic()
        with pytest.raises(TrainingError, match="HTTP 429"):
            judge(server.url, retries=1)(IMAGES[:1], PROMPTS[:1])
        assert time.monotonic() - begin < SOON


@pytest.mark.parametrize("behave", [silent, trickle, trickle_headers])
def test_a_slow_server_is_given_up_in_time_however_it_is_slow(serve, behave):
    server = serve(behave)
    begin = time.monotonic()
    with pytest.raises(TrainingError, match=r"no reply within 0\.4 s .*raise timeout"):
        judge(server.url, timeout=0.4)(IMAGES[:1], PROMPTS[:1])
    assert time.monotonic() - begin < SOON


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_no_server_is_said_at_once(host):
    begin = time.monotonic()
    with pytest.raises(
        TrainingError, match=rf"there is no server at http://{re.escape(host)}:.*: start it, or correct base_url"
    ):
        judge(f"http://{host}:{closed_port()}", retries=5)(IMAGES, PROMPTS)
    assert time.monotonic() - begin < SOON


def test_tls_with_a_server_that_has_none_is_said(serve):
    server = serve(lambda request: request.say("5"))
    with pytest.raises(TrainingError, match=r"does not speak TLS \(.+\): use http://"):
        judge(server.url.replace("http:", "https:"))(IMAGES[:1], PROMPTS[:1])


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
    monkeypatch.setenv("PAVE_JUDGE_HOSTS", f"{server.url}=PAVE_JUDGE_KEY")
    reward = judge(server.url, key_variable="PAVE_JUDGE_KEY")
    with pytest.raises(TrainingError, match=r"HTTP 401 .*wrong key \*\*\*.*check the key") as error:
        reward(IMAGES[:1], PROMPTS[:1])
    assert server.requests[0].headers["Authorization"] == "Bearer sk-very-secret"
    assert "secret" not in str(error.value)
    assert "secret" not in json.dumps(reward.describe())


@pytest.mark.parametrize(
    "echo",
    [
        lambda r: r.answer({}, 302, Location="http://127.0.0.1:1/?key=sk-very-secret"),
        lambda r: r.answer(chat("sk-very-secret").__repr__().encode()),
        lambda r: r.answer(b'{"choices": [{"message": {"content": "sk\\u002dvery\\u002dsecret"}}]}'),
        lambda r: r.answer({"scores": "sk-very-secret"}),
    ],
    ids=["redirect", "broken JSON", "escaped", "other JSON"],
)
def test_a_key_that_the_server_repeats_does_not_get_into_the_log(serve, monkeypatch, echo):
    monkeypatch.setenv("PAVE_JUDGE_KEY", "sk-very-secret")
    server = serve(echo)
    monkeypatch.setenv("PAVE_JUDGE_HOSTS", f"{server.url}=PAVE_JUDGE_KEY")
    with pytest.raises(TrainingError, match=r"\*\*\*") as error:
        judge(server.url, key_variable="PAVE_JUDGE_KEY")(IMAGES[:1], PROMPTS[:1])
    assert "secret" not in str(error.value)
