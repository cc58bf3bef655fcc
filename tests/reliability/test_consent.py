"""A stranger's workflow cannot send images, prompts or a key anywhere: only the owner's environment can allow it.

The judge listens on this machine's address in its network, which is another machine as far as an address tells.
"""

import pytest

from _host.browser import until
from _host.client import PromptError
from _judging import another_page, comfy_server, far_away, judge_node, scoring
from _training_graphs import node, trained

pytestmark = pytest.mark.server

KEY = "sk-very-secret"


def rate(request):
    request.say("7")


@pytest.fixture(scope="module")
def careless(comfyui, tmp_path_factory):
    """A server of an owner who has a key in the environment and has allowed nothing."""
    with comfy_server(comfyui, tmp_path_factory.mktemp("careless"), {"PAVE_JUDGE_KEY": KEY}) as server:
        yield server


@pytest.fixture(scope="module")
def allowed():
    """The judge that the owner of `careful` allows, with a key of its own."""
    with far_away(rate) as server:
        yield server


@pytest.fixture(scope="module")
def without_key():
    """Another one that is allowed."""
    with far_away(rate) as server:
        yield server


@pytest.fixture(scope="module")
def careful(comfyui, tmp_path_factory, allowed, without_key):
    """A server of an owner who allows two judges."""
    hosts = f"{allowed.url}=PAVE_JUDGE_KEY, {without_key.url}"
    environment = {"PAVE_JUDGE_KEY": KEY, "PAVE_JUDGE_HOSTS": hosts}
    with comfy_server(comfyui, tmp_path_factory.mktemp("careful"), environment) as server:
        yield server


def judging(judge: dict) -> dict:
    graph = trained("stranger", iterations=1)
    train = node("PaveTrainAdvanced", **graph["train"]["inputs"] | {"judge": ["stranger", 0]})
    return graph | {"stranger": judge, "train": train}


STRANGER = {"allow_remote": True, "key_variable": "PAVE_JUDGE_KEY"}


@pytest.mark.parametrize("graph", [scoring, judging], ids=["reward", "judge of Pave Train"])
@pytest.mark.parametrize("inputs", [STRANGER, STRANGER | {"key_variable": ""}], ids=["with key", "without"])
def test_a_strangers_workflow_sends_nothing(careless, graph, inputs):
    with far_away(rate) as elsewhere, careless.client() as client:
        line = f'set PAVE_JUDGE_HOSTS="{elsewhere.url}"'
        with pytest.raises(PromptError, match=f"base_url: .*another machine.*: if you want that, {line}"):
            client.run(graph(judge_node(elsewhere.url, **inputs)), timeout=120)
        assert elsewhere.requests == []


def wired(judge: dict) -> dict:
    """`judge` with its address on a wire, where validation cannot see it."""
    address = node("PrimitiveString", value=judge["inputs"]["base_url"])
    return scoring(node("PaveJudge", **judge["inputs"] | {"base_url": ["address", 0]})) | {"address": address}


def test_nor_does_one_that_hides_the_address_on_a_wire(careless):
    with far_away(rate) as elsewhere, careless.client() as client:
        with pytest.raises(PromptError, match="base_url: .*another machine"):
            client.run(wired(judge_node(elsewhere.url, **STRANGER)), timeout=60)
        assert elsewhere.requests == []


def test_a_key_does_not_go_to_this_machine_either_unless_it_is_bound(careless):
    """A port of this machine may be a tunnel, or a program of another user."""
    with (
        careless.client() as client,
        pytest.raises(PromptError, match="key_variable: the key in PAVE_JUDGE_KEY is not"),
    ):
        client.run(scoring(judge_node("http://127.0.0.1:1/v1", key_variable="PAVE_JUDGE_KEY")), timeout=60)


def test_the_allowed_judge_gets_images_and_its_key(careful, allowed):
    with careful.client() as client:
        for inputs, key in ((STRANGER, f"Bearer {KEY}"), ({"allow_remote": True}, None)):
            assert client.run(scoring(judge_node(allowed.url, **inputs)), timeout=60)["show"]["text"] == ["7.0"]
            assert allowed.requests[-1].headers["Authorization"] == key
        with pytest.raises(PromptError, match="base_url: .*not on this machine.*allow_remote"):
            client.run(scoring(judge_node(allowed.url)), timeout=60)


def test_the_key_goes_to_no_other_origin(careful):
    with far_away(rate) as elsewhere, careful.client() as client:
        for url in (elsewhere.url, elsewhere.url.replace("http:", "https:")):
            with pytest.raises(PromptError, match="base_url: .*another machine"):
                client.run(scoring(judge_node(url, **STRANGER)), timeout=60)
        loopback = f"http://127.0.0.1:{elsewhere.url.rpartition(':')[2]}"
        with pytest.raises(PromptError, match="key_variable: the key in PAVE_JUDGE_KEY is not for"):
            client.run(scoring(judge_node(loopback, key_variable="PAVE_JUDGE_KEY")), timeout=60)
        assert elsewhere.requests == []


@pytest.mark.browser
def test_log_and_page_say_once_where_images_go(page, careful, without_key):
    notice = f"judge: images and prompts go to {without_key.url}"
    with another_page(page, careful.url) as opened, careful.client() as client:
        for instruction in ("one", "two"):
            graph = scoring(judge_node(without_key.url, allow_remote=True, instruction=instruction))
            assert client.run(graph, timeout=60)["show"]["text"] == ["7.0"]
        toast = opened.locator(".p-toast-message-warn")
        until(opened, "the page says where images go", lambda: notice in " ".join(toast.all_inner_texts()))
        assert toast.count() == 1
    assert careful.log.read_text("utf-8").count(notice) == 1
