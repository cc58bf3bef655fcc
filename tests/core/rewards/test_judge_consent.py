"""Hosts and keys that this machine's owner allows in PAVE_JUDGE_HOSTS, and addresses that only look like them."""

import pytest

from pave_core.errors import ConfigError
from pave_core.rewards.http.consent import Origin, allowed, split_address
from pave_core.rewards.http.endpoint import Endpoint

LISTED = "https://API.Example.org=PAVE_KEY, http://192.168.1.20:8000, https://[2001:DB8:0::1]:8443=PAVE_OTHER,"


@pytest.fixture
def listed(monkeypatch, no_network):
    monkeypatch.setenv("PAVE_JUDGE_HOSTS", LISTED)
    monkeypatch.setenv("PAVE_KEY", "sk-1")
    monkeypatch.setenv("PAVE_OTHER", "sk-2")


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.org/v1",
        "HTTPS://Api.Example.ORG",
        "https://api.example.org:443/v1",
        "https://api.example.org./v1",
        "http://192.168.1.20:8000/a/b",
        "https://[2001:db8::1]:8443",
        "https://[2001:0db8:0000::0001]:8443/v1",
    ],
)
def test_the_listed_origin_is_known_in_each_of_its_forms(listed, url):
    assert Endpoint(url, allow_remote=True).base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example.org/v1",
        "https://api.example.org:8443",
        "https://api.example.org.evil.org",
        "https://evil.api.example.org",
        "https://example.org",
        "https://api-example.org",
        "https://api.example.org..",
        "https://api.examp1e.org",
        "https://xn--pi-7kc.example.org",
        "https://api%2eexample.org",
        "https://apı.example.org",
        "https://api.example.org@evil.org",
        "https://evil.org@api.example.org",
        "https://evil.org/api.example.org",
        "https://evil.org#api.example.org",
        "https://evil.org?https://api.example.org",
        "https://evil.org\\@api.example.org",
        "https:///api.example.org",
        "http://192.168.1.20",
        "https://192.168.1.20:8000",
        "http://192.168.1.200:8000",
        "http://192.168.276:8000",
        "http://3232235796:8000",
        "http://[::ffff:192.168.1.20]:8000",
        "https://[2001:db8::1]",
        "https://[2001:db8::11]:8443",
    ],
)
def test_what_only_looks_like_it_is_refused(listed, url):
    with pytest.raises(ConfigError, match=r"^base_url: .*: "):
        Endpoint(url, allow_remote=True)


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("https://api.example.org", "PAVE_OTHER"),
        ("https://[2001:db8::1]:8443", "PAVE_KEY"),
        ("http://192.168.1.20:8000", "PAVE_KEY"),
        ("http://127.0.0.1:8000", "PAVE_KEY"),
        ("http://localhost", "PAVE_JUDGE_HOSTS"),
    ],
)
def test_a_key_goes_to_its_own_origin_alone(listed, monkeypatch, url, variable):
    with pytest.raises(ConfigError, match=rf'^key_variable: .*: if it is, set PAVE_JUDGE_HOSTS=".*={variable}" in'):
        Endpoint(url, allow_remote=True, key_variable=variable)
    bound = Endpoint("https://api.example.org", allow_remote=True, key_variable="PAVE_KEY")
    assert bound.headers()["Authorization"] == "Bearer sk-1"
    monkeypatch.delenv("PAVE_JUDGE_HOSTS")
    with pytest.raises(ConfigError, match="key_variable"):  # also of one that was made before
        bound.headers()


def test_one_origin_may_have_several_keys_and_this_machine_one_too(no_network, monkeypatch):
    monkeypatch.setenv("PAVE_JUDGE_HOSTS", "http://127.0.0.1:80=PAVE_A,http://127.0.0.1 = PAVE_B")
    assert allowed() == {Origin("http", "127.0.0.1", 80): {"PAVE_A", "PAVE_B"}}


@pytest.mark.parametrize(
    "entry",
    [
        "api.example.org",
        "https://api.example.org/v1",
        "https://*.example.org",
        "https://user@api.example.org",
        "https://api.example.org?",
        "ftp://api.example.org",
        "https://api.example.org=",
        "https://api.example.org=HF_TOKEN",
        "https://api.example.org=sk-1234",
        "https://api.example.org=PAVE_A=PAVE_B",
        "https://bücher.example.org",
        "https://api.example.org http://b",
        "*",
        "http://a:0",
        "https://a;https://b",
    ],
)
def test_a_malformed_entry_is_said_with_its_form(no_network, monkeypatch, entry):
    monkeypatch.setenv("PAVE_JUDGE_HOSTS", f"http://192.168.1.20, {entry}")
    with pytest.raises(ConfigError, match=r"^PAVE_JUDGE_HOSTS: .*: write it as http://.*restart it"):
        Endpoint("http://192.168.1.20", allow_remote=True)
    assert Endpoint("http://127.0.0.1").headers()  # who asks for nothing of it is not bothered


@pytest.mark.parametrize("address", ["http://a", "https://a:8443", "http://[::1]:8000", "https://[::1]"])
def test_an_origin_is_written_as_it_is_read(address):
    assert str(Origin.of(split_address(address))) == address
