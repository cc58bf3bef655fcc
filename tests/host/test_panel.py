"""The routes of the panel on the real server, while a run trains and after it."""

import json
import time
import urllib.error
import urllib.request

import pytest

from _training_graphs import trained

BAD = [
    *("..", "%2e%2e", "..%2f..%2finput", "%2fetc%2fpasswd", "nothing_00001", "recipes", "a%00b", "C:%5Cx", "x" * 5000),
    *("panel_00001%2f..", "panel_00001%2fmetrics.jsonl", "%F0%9F%98%80", "<img%20src=x>"),
]


@pytest.fixture
def get(client):
    """get(path) -> (status, content) of a GET on the server."""

    def answer(path):
        try:
            with urllib.request.urlopen(f"{client.url}{path}", timeout=30) as reply:
                return reply.status, reply.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    return answer


@pytest.fixture(scope="module")
def run(server):
    """(what the page was told, and what it was answered meanwhile) of a run of 4 steps named panel_00001."""
    with server.client() as client:
        prompt_id = client.queue(trained("panel", 4))
        told, answers = [], []
        for event in client.events(prompt_id, timeout=120):
            if event.kind == "pave.run":
                told.append(event.data)
                with urllib.request.urlopen(f"{client.url}/pave/runs/{event.data['name']}", timeout=30) as reply:
                    answers.append(json.load(reply))
    return told, answers


def test_while_it_trains_the_page_is_told_that_there_is_something_new(run):
    told, answers = run
    assert all(event == {"name": "panel_00001"} for event in told)
    assert len(told) >= 4
    training = [answer for answer in answers if answer["status"] == "training"]
    assert training
    assert any(answer["phase"] and answer["phase"]["what"] for answer in training)
    assert {answer["step"] for answer in training} & {1, 2, 3}
    for answer in training:
        if answer["step"] in (1, 2, 3) and answer["phase"] is None:
            assert answer["steps"] == 4
            assert answer["seconds_left"] == pytest.approx((4 - answer["step"]) * answer["seconds_per_step"])


def test_after_it_all_is_there_and_nothing_trains(run, get, server):
    status, content = get("/pave/runs")
    listed = json.loads(content)
    assert (status, listed["live"]) == (200, None)
    (line,) = (line for line in listed["runs"] if line["name"] == "panel_00001")
    assert (line["status"], line["step"], line["steps"], line["lora"]) == ("finished", 4, 4, True)
    assert 0 < line["megabytes"] < 50
    assert abs(line["modified"] - time.time()) < 600
    view = json.loads(get("/pave/runs/panel_00001")[1])
    records = (server.output / "pave" / "panel_00001" / "metrics.jsonl").read_text().splitlines()
    assert view["curves"]["reward"] == [json.loads(record)["reward_mean"] for record in records]
    assert view["evaluations"][-1]["step"] == 4
    assert line["gain"] == [view["evaluations"][-1][name] for name in ("gain", "se")]
    assert view["phase"] is view["seconds_left"] is None
    assert view["message"]


def test_pictures_are_those_of_the_folder(run, get, server):
    for name in ("curve", "grid"):
        status, content = get(f"/pave/runs/panel_00001/pictures/{name}")
        assert status == 200
        assert content == (server.output / "pave" / "panel_00001" / f"{name}.png").read_bytes()


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_run_is_not_found(run, get, name):
    for path in (f"/pave/runs/{name}", f"/pave/runs/{name}/pictures/curve"):
        status, content = get(path)
        assert status in (400, 404)
        assert b"root:" not in content
    for picture in ("checkpoint", "..%2fcurve", "metrics.jsonl", "curve.png"):
        assert get(f"/pave/runs/panel_00001/pictures/{picture}")[0] == 404


def test_another_site_is_refused(run, client):
    """By the host, whose own routes are guarded likewise."""
    request = urllib.request.Request(f"{client.url}/pave/runs", headers={"Origin": "http://evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=30)


def test_only_reading_is_allowed(run, client):
    for method in ("POST", "PUT", "DELETE"):
        request = urllib.request.Request(f"{client.url}/pave/runs/panel_00001", data=b"{}", method=method)
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(request, timeout=30)


def test_a_training_that_fails_trains_no_longer(client, get):
    graph = trained("fails", 2)
    graph["rollout"]["inputs"]["width"] = 8192
    with pytest.raises(Exception, match="width"):
        client.run(graph, timeout=60)
    graph = trained("fails", 2)
    graph["reward"]["inputs"] |= {"weight_1": 0.0, "weight_2": 0.0}
    with pytest.raises(Exception, match="weight"):
        client.run(graph, timeout=60)
    listed = json.loads(get("/pave/runs")[1])
    assert listed["live"] is None
    assert not any(line["name"].startswith("fails") for line in listed["runs"])
