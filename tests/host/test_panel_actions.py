"""The routes of what people do with runs, on the real server; and what is left of a run after a restart of it."""

import io
import json
import shutil
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
from PIL import Image
from safetensors.torch import load_file

from _own_server import own_server
from _training_graphs import trained

WORKFLOW = {"nodes": [], "links": [], "extra": {"by": "<b>me</b>", "accents": "é"}, "version": 0.4}
RUN = "acted_00001"
BAD = [
    *("..", "%2e%2e", "..%2f..%2finput", "%2fetc%2fpasswd", "nothing_00001", "recipes", "a%00b", "C:%5Cx", "x" * 5000),
    *(f"{RUN}%2f..", f"{RUN}%2fmetrics.jsonl", "%F0%9F%98%80", "<img%20src=x>", "link_00001"),
]


@pytest.fixture(scope="module")
def own(comfyui, tmp_path_factory):
    """A server of its own with a run of 3 steps, measured after each, and a folder that is a link."""
    base = tmp_path_factory.mktemp("acting")
    with own_server(comfyui, base) as running:
        graph = trained("acted", 3)
        graph["train"]["inputs"]["evaluate_every"] = 1
        with running.client() as client:
            ended = client.queue(graph, WORKFLOW)
            for _ in client.events(ended, timeout=200):
                pass
        (base / "elsewhere").mkdir()
        (base / "elsewhere" / "metrics.jsonl").write_text("")
        (running.output / "pave" / "link_00001").symlink_to(base / "elsewhere")
        yield running


def asked(server, path, body=None, headers=None, method=None):
    """(status, content, type) of a request; a body is posted as JSON."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = {} if data is None else {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}{path}", data, kind | (headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read(), reply.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers["Content-Type"]


def told(server, path, body=None, status=200):
    """The JSON of an answer."""
    answer = asked(server, path, body)
    assert answer[0] == status, answer
    return json.loads(answer[1])


def shown(server) -> SimpleNamespace:
    """All that the panel shows of the run."""
    view = told(server, f"/pave/runs/{RUN}")
    group = told(server, f"/pave/runs/{RUN}/group")
    images = [asked(server, f"/pave/runs/{RUN}/group/{group['step']}/{each['place']}") for each in group["images"]]
    steps, places = view["measured"]["steps"], range(len(view["measured"]["places"]))
    measured = [asked(server, f"/pave/runs/{RUN}/measured/{step}/{place}") for step in steps for place in places]
    return SimpleNamespace(view=view, group=group, images=images, measured=measured)


def test_each_measurement_has_a_picture_of_each_prompt(own):
    found = shown(own)
    assert found.view["measured"]["steps"] == [0, 1, 2, 3]
    assert found.view["measured"]["places"]
    assert {(status, kind) for status, _, kind in found.measured} == {(200, "image/jpeg")}
    assert all(Image.open(io.BytesIO(content)).size == (64, 64) for _, content, _ in found.measured)
    count = len(found.view["measured"]["places"])
    before, after = found.measured[0][1], found.measured[-count][1]
    assert before != after, "it has learnt something"
    status, content, kind = asked(own, f"/pave/runs/{RUN}/preview")
    assert (status, kind) == (200, "image/jpeg")
    assert len(content) < 20_000
    assert found.view["curves"]["memory"][-1] > 0.1


def test_the_graph_that_began_it_and_its_recipe(own):
    assert told(own, f"/pave/runs/{RUN}/workflow") == WORKFLOW
    recipe = told(own, f"/pave/runs/{RUN}/recipe")
    assert recipe["config"]["run"]["iterations"] == 3
    assert recipe["prompts"]
    (line,) = (line for line in told(own, "/pave/runs")["runs"] if line["name"] == RUN)
    assert (line["workflow"], line["resumable"], line["lora"]) == (True, True, True)
    assert line["picture"]
    assert len(line["curve"]) == 4
    assert line["reward"] == told(own, f"/pave/runs/{RUN}")["curves"]["reward"][-1]


def test_all_of_it_is_there_after_a_restart(own):
    before = shown(own)
    own.stop()
    own.start()
    after = shown(own)
    assert after.group == before.group
    assert after.images == before.images
    assert after.measured == before.measured
    times = ("seconds_left", "message")
    assert {k: v for k, v in after.view.items() if k not in times} == {
        k: v for k, v in before.view.items() if k not in times
    }


def test_the_lora_is_copied_under_a_name_of_its_own(own):
    loras = own.folder / "models" / "loras"
    loras.mkdir(parents=True, exist_ok=True)
    (loras / f"{RUN}.safetensors").write_bytes(b"another one's")
    (own.output / "loras" / f"{RUN}_2.safetensors").write_bytes(b"listed under this name")
    assert told(own, f"/pave/runs/{RUN}/copy", {}) == {"name": f"{RUN}_3.safetensors", "new": True}
    lora = own.output / "loras" / "pave" / f"{RUN}.safetensors"
    assert (loras / f"{RUN}_3.safetensors").read_bytes() == lora.read_bytes()
    assert (loras / f"{RUN}_3.png").read_bytes() == lora.with_suffix(".png").read_bytes()
    assert (loras / f"{RUN}.safetensors").read_bytes() == b"another one's"
    assert load_file(loras / f"{RUN}_3.safetensors")
    assert {path.name for path in loras.iterdir()} == {f"{RUN}.safetensors", f"{RUN}_3.safetensors", f"{RUN}_3.png"}
    names = told(own, "/object_info/LoraLoader")["LoraLoader"]["input"]["required"]["lora_name"][0]
    names = names if isinstance(names, list) else told(own, "/models/loras")
    assert f"{RUN}_3.safetensors" in names
    assert told(own, f"/pave/runs/{RUN}/copy", {}) == {"name": f"{RUN}_3.safetensors", "new": False}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_run_is_not_found(own, name):
    for path in ("workflow", "recipe", "preview", "measured/0/0", "group/3/0"):
        status, content, _ = asked(own, f"/pave/runs/{name}/{path}")
        assert status in (400, 404), path
        assert b"root:" not in content
    for path in ("copy", "delete"):
        assert asked(own, f"/pave/runs/{name}/{path}", {})[0] in (400, 404, 405), path
    assert (own.folder / "elsewhere" / "metrics.jsonl").exists()


def test_numbers_of_pictures_are_numbers(own):
    for place in ("0/9", "9/0", "0/-1", "-1/0", "x/0", "0/..%2f0", "00/0", "0/0.jpg", "9999999999999/0", "%C2%B2/0"):
        assert asked(own, f"/pave/runs/{RUN}/measured/{place}")[0] == 404, place


def test_only_pages_of_this_server_act(own):
    before = sorted(path.name for path in (own.output / "pave" / RUN).iterdir())
    for path in ("copy", "delete"):
        where = f"/pave/runs/{RUN}/{path}"
        assert asked(own, where)[0] in (404, 405)  # the host looks for a file of its page
        assert asked(own, where, {"more": 1})[0] == 400
        assert asked(own, where, b"[]")[0] == 400
        assert asked(own, where, b"x" * 100_000)[0] == 413
        assert asked(own, where, {}, {"Content-Type": "text/plain"})[0] == 415
        assert asked(own, where, {}, {"Origin": "http://evil.example"})[0] == 403
        assert asked(own, where, {}, {"Sec-Fetch-Site": "cross-site"})[0] == 403
        for method in ("PUT", "DELETE", "PATCH"):
            assert asked(own, where, {}, method=method)[0] == 405
    for path in ("workflow", "recipe", "preview", "measured/0/0"):
        assert asked(own, f"/pave/runs/{RUN}/{path}", {})[0] == 405
    assert sorted(path.name for path in (own.output / "pave" / RUN).iterdir()) == before


def test_damaged_and_hostile_folders_are_listed_shown_and_removed(own):
    runs = own.output / "pave"
    broken = runs / "<img src=x onerror=alert(1)>_00001"
    broken.mkdir()
    (broken / "metrics.jsonl").write_bytes(b"\0\xff wat\n" * 3)
    (broken / "workflow.json").write_bytes(b"[" * 100_000)
    (broken / "measured").mkdir()
    (broken / "measured" / "measured.json").write_text('[{"prompt": "a", "seed": 1}]')
    (broken / "measured" / "0_0.jpg").write_bytes(b"no picture")
    (broken / "group").write_text("no folder")
    (line,) = (line for line in told(own, "/pave/runs")["runs"] if line["name"] == broken.name)
    assert (line["status"], line["reward"], line["curve"], line["resumable"]) == ("damaged", None, [], False)
    path = f"/pave/runs/{urllib.request.quote(broken.name, safe='')}"
    assert told(own, path)["status"] == "damaged"
    for part in ("preview", "workflow", "recipe", "group"):
        assert asked(own, f"{path}/{part}")[0] == 404, part
    assert told(own, f"{path}/copy", {}, 404)["error"]
    assert told(own, f"{path}/delete", {}) == {"left": ["group"]}
    assert [each.name for each in broken.iterdir()] == ["group"]
    assert told(own, f"{path}/delete", {}, 404)["error"].startswith("there is no run")
    shutil.rmtree(broken)


def test_a_run_that_trains_stays_and_one_that_has_ended_goes(own):
    folder = own.output / "pave" / "trains_00001"
    with own.client() as client:
        prompt = client.queue(trained("trains", 500))
        refused = None
        for event in client.events(prompt, timeout=200):
            if event.kind == "pave.step" and refused is None:
                refused = told(own, "/pave/runs/trains_00001/delete", {}, 409)
                client.interrupt()
    assert "stop it first" in refused["error"]
    assert (folder / "checkpoint.safetensors").exists()
    assert "workflow.json" not in {path.name for path in folder.iterdir()}, "it was queued without one"
    assert told(own, "/pave/runs/trains_00001/workflow", status=404)["error"]
    lora = own.output / "loras" / "pave" / "trains_00001.safetensors"
    content = lora.read_bytes()
    assert told(own, "/pave/runs/trains_00001/delete", {}) == {"left": []}
    assert not folder.exists()
    assert all(line["name"] != "trains_00001" for line in told(own, "/pave/runs")["runs"])
    with own.client() as client:
        client.run(trained("trains", 1), timeout=200)
    assert (own.output / "pave" / "trains_00002").is_dir()
    assert lora.read_bytes() == content, "its LoRA is never another run's"
