"""Addresses, keys and patience that are taken or refused before anything is sent."""

import math
import re

import pytest

from pave_core.errors import ConfigError
from pave_core.rewards.http.endpoint import Endpoint

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


@pytest.mark.parametrize("url", REMOTE)
def test_another_machine_needs_the_switch_and_the_owners_consent(no_network, monkeypatch, url):
    with pytest.raises(ConfigError, match="base_url: .*not on this machine: .*PAVE_JUDGE_HOSTS .*allow_remote"):
        Endpoint(url)
    with pytest.raises(ConfigError, match='base_url: .*is another machine.*: .*set PAVE_JUDGE_HOSTS="http') as error:
        Endpoint(url, allow_remote=True)
    line = re.search('PAVE_JUDGE_HOSTS="(.*?)"', str(error.value))[1]
    monkeypatch.setenv("PAVE_JUDGE_HOSTS", line)  # as the message says
    assert Endpoint(url, allow_remote=True).base_url == url
    with pytest.raises(ConfigError, match="base_url: .*not on this machine"):
        Endpoint(url)


@pytest.mark.parametrize("url", MALFORMED)
@pytest.mark.parametrize("allow_remote", [False, True])
def test_what_is_no_address_is_refused_in_any_case(no_network, url, allow_remote):
    with pytest.raises(ConfigError, match="base_url: .*: write it as"):
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


@pytest.mark.parametrize(
    ("name", "value"),
    [("PAVE_NOT_SET", None), ("PAVE_KEY", ""), ("PAVE_KEY", "a\r\nHost: b"), ("PAVE_KEY", "schlüssel")],
)
def test_a_variable_without_a_key_is_refused(monkeypatch, name, value):
    monkeypatch.setenv("PAVE_JUDGE_HOSTS", f"http://127.0.0.1={name}")
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
        (lambda: Endpoint("http://127.0.0.1", timeout=3601), "timeout"),
        (lambda: Endpoint("http://127.0.0.1", timeout="60"), "timeout"),  # pyright: ignore[reportArgumentType]
        (lambda: Endpoint("http://127.0.0.1", retries=True), "retries"),
        (lambda: Endpoint("http://127.0.0.1", retries=2.5), "retries"),  # pyright: ignore[reportArgumentType]
        (lambda: Endpoint("http://127.0.0.1", allow_remote="no"), "allow_remote"),  # pyright: ignore[reportArgumentType]
        (lambda: Endpoint(5), "base_url"),  # pyright: ignore[reportArgumentType]
        (lambda: Endpoint("http://127.0.0.1/" + "a" * 1_000_000), "base_url"),
        (lambda: Endpoint("http://127.0.0.1", key_variable=["PAVE_KEY"]), "key_variable"),  # pyright: ignore
        (lambda: Endpoint("http://127.0.0.1", key_variable="PAVE_" + "A" * 1_000_000), "key_variable"),
    ],
)
def test_settings_that_cannot_work_are_refused(no_network, make, field):
    with pytest.raises(ConfigError, match=rf"^{field}: .+"):
        make()
