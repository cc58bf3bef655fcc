"""The routes of the panel on the real server, while a run trains and after it."""

import io
import json
import time
import urllib.error
import urllib.request

import pytest
from PIL import Image

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
        told, answers, group = [], [], {}
        for event in client.events(prompt_id, timeout=120):
            if event.kind == "pave.run":
                told.append(event.data)
                with urllib.request.urlopen(f"{client.url}/pave/runs/{event.data['name']}", timeout=30) as reply:
                    answers.append(json.load(reply))
                if not group and answers[-1]["step"] in (1, 2, 3):
                    group |= group_of(client)
    return told, answers, group


def group_of(client) -> dict:
    """The group of a run that trains, with the images themselves; empty if it has ended meanwhile."""
    try:
        with urllib.request.urlopen(f"{client.url}/pave/runs/panel_00001/group", timeout=30) as reply:
            group = json.load(reply)
        for image in group["images"]:
            url = f"{client.url}/pave/runs/panel_00001/group/{group['step']}/{image['place']}"
            with urllib.request.urlopen(url, timeout=30) as reply:
                image["content"] = reply.read()
                assert reply.headers["Content-Type"] == "image/jpeg"
    except urllib.error.HTTPError:  # the next step has another group
        return {}
    return group


def test_while_it_trains_the_page_is_told_that_there_is_something_new(run):
    told, answers, _ = run
    assert all(event == {"name": "panel_00001"} for event in told)
    assert len(told) >= 4
    training = [answer for answer in answers if answer["status"] == "training"]
    assert training
    assert any(answer["phase"] and answer["phase"]["what"] for answer in training)
    assert {answer["step"] for answer in training} & {1, 2, 3}
    before = [answer for answer in training if answer["step"] == 0 and answer["seconds_left"] is not None]
    assert before, "nothing was foretold before the first step"
    measurement = before[-1]["seconds_left"] - 4 * before[-1]["seconds_per_step"]
    assert 0 < measurement < before[-1]["seconds_left"]
    for answer in training:
        if answer["step"] in (1, 2, 3) and answer["phase"] is None:
            assert answer["steps"] == 4
            steps = (4 - answer["step"]) * answer["seconds_per_step"]
            assert answer["seconds_left"] == pytest.approx(steps + measurement)


def test_the_group_that_was_compared_is_shown_best_first(run, server):
    group = run[2]
    assert group, "no step lasted long enough to be looked at"
    advantages = [image["advantage"] for image in group["images"]]
    assert advantages == sorted(advantages, reverse=True)
    assert sorted(image["place"] for image in group["images"]) == [0, 1, 2]
    (record,) = (each for each in records(server) if each["step"] == group["step"])
    assert group["prompt"] == record["prompts"][0]
    assert group["images"][0]["scores"].keys() == record["rewards"].keys()
    for image in group["images"]:
        assert Image.open(io.BytesIO(image["content"])).size == (64, 64)
    assert len({image["content"] for image in group["images"]}) == 3


def test_the_last_group_is_there_when_the_run_has_ended(run, get):
    assert json.loads(get("/pave/runs/panel_00001")[1])["group"] == 4
    group = json.loads(get("/pave/runs/panel_00001/group")[1])
    assert group["step"] == 4
    for image in group["images"]:
        status, content = get(f"/pave/runs/panel_00001/group/4/{image['place']}")
        assert status == 200
        assert content.startswith(b"\xff\xd8")


def records(server) -> list[dict]:
    return [json.loads(line) for line in (server.output / "pave" / "panel_00001" / "metrics.jsonl").open()]


def test_after_it_all_is_there_and_nothing_trains(run, get, server):
    status, content = get("/pave/runs")
    listed = json.loads(content)
    assert (status, listed["live"]) == (200, None)
    (line,) = (line for line in listed["runs"] if line["name"] == "panel_00001")
    assert (line["status"], line["step"], line["steps"], line["lora"]) == ("finished", 4, 4, True)
    assert 0 < line["megabytes"] < 50
    assert abs(line["modified"] - time.time()) < 600
    view = json.loads(get("/pave/runs/panel_00001")[1])
    assert view["curves"]["reward"] == [record["reward_mean"] for record in records(server)]
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
    for place in (
        "group/9/0",
        "group/4/-1",
        "group/4/3",
        "group/x/0",
        "group/4/..%2f0",
        "group/4/9999999999999",
    ):
        assert get(f"/pave/runs/panel_00001/{place}")[0] == 404
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
