"""The route by which people steer the run that trains, on the real server."""

import json
import threading
import time
import urllib.error
import urllib.request

import pytest

from _training_graphs import looped, lora, metrics, same, trained

ORDERS = ("pause", "go on", "save", "evaluate", "halve", "finish")


def post(client, name, body=None, order=None, headers=None):
    """(status, answer) of a POST that steers the run of this name."""
    data = json.dumps({"order": order}).encode() if body is None else body
    headers = {"Content-Type": "application/json"} | (headers or {})
    request = urllib.request.Request(f"{client.url}/pave/runs/{name}/steer", data=data, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        content = error.read()
        return error.code, json.loads(content) if content[:1] == b"{" else content


def seen(client, name):
    with urllib.request.urlopen(f"{client.url}/pave/runs/{name}", timeout=30) as reply:
        return json.load(reply)


def until(what, met, seconds=60):
    end = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


def recipe_of(server, name):
    from safetensors import safe_open

    with safe_open(server.output / "loras" / "pave" / f"{name}_00001.safetensors", "pt") as file:
        return json.loads(file.metadata()["pave_recipe"])


class Watched:
    """A graph under way: the events of its prompt, heard by another thread."""

    def __init__(self, server, graph):
        self.client = server.client()
        self.client.__enter__()
        self.prompt = self.client.queue(graph)
        self.events = []
        self.thread = threading.Thread(target=self._hear)
        self.thread.start()

    def _hear(self):
        for event in self.client.events(self.prompt, timeout=240):
            self.events.append(event)

    def kinds(self):
        return [event.kind for event in list(self.events)]

    def end(self):
        self.thread.join()
        self.client.__exit__(None, None, None)
        return self.kinds()


KINDS = {
    "train": lambda name, steps: trained(name, steps),
    "loop": lambda name, steps: looped(name, steps, reward=["reward", 0]),
}


@pytest.mark.parametrize("kind", ["train", "loop"])
def test_a_run_is_paused_saved_measured_and_finished(client, server, kind):
    name, run = f"steered_{kind}", f"steered_{kind}_00001"
    under_way = Watched(server, KINDS[kind](name, 400))
    until("it trains", lambda: "pave.step" in under_way.kinds())
    started = time.monotonic()
    assert post(client, run, order="pause")[0] == 200
    assert time.monotonic() - started < 10  # it waits for nothing of the run
    until("it is paused", lambda: seen(client, run)["paused"])
    held = seen(client, run)
    assert (held["status"], held["phase"]["what"], held["ordered"]) == ("training", "paused", [])
    time.sleep(0.7)
    assert seen(client, run)["step"] == held["step"]
    assert post(client, run, order="pause") == (409, {"error": "order: the run is paused already"})
    assert post(client, run, order="save")[0] == 200
    until("it is saved", lambda: (seen(client, run)["obeyed"] or "") == f"saved step {held['step']}")
    assert post(client, run, order="evaluate")[0] == 200
    until("it is measured", lambda: f"evaluated step {held['step']}" in (seen(client, run)["obeyed"] or ""))
    assert seen(client, run)["evaluations"][-1]["step"] == held["step"]
    assert post(client, run, order="halve")[0] == 200
    assert post(client, run, order="go on")[0] == 200
    until("it goes on", lambda: seen(client, run)["step"] > held["step"] + 1)
    assert seen(client, run)["curves"]["learning rate"][-1] == seen(client, run)["curves"]["learning rate"][0] / 2
    assert post(client, run, order="finish")[0] == 200
    kinds = under_way.end()
    assert "execution_success" in kinds
    assert "execution_error" not in kinds
    ended = seen(client, run)
    assert ended["status"] == "finished"
    assert not ended["paused"]
    assert {"curve", "grid"} <= set(ended["pictures"])
    steered = recipe_of(server, name)["steered"]
    assert [entry["order"] for entry in steered] == ["pause", "save", "evaluate", "halve", "go on", "finish"]
    assert steered[0]["step"] == held["step"]
    said = (server.output / "pave" / run / "steering.jsonl").read_text().splitlines()
    assert [json.loads(line)["order"] for line in said] == [entry["order"] for entry in steered]
    log = server.log.read_text()
    for text in (f"paused after step {held['step']}", "learning rate halved after step", "stopped by hand after step"):
        assert f"Pave-GRPO {text}" in log
    assert post(client, run, order="pause")[0] == 409
    assert len(metrics(server, name)) == ended["step"] < 400


@pytest.mark.parametrize("kind", ["train", "loop"])
def test_a_run_that_is_only_paused_saved_and_evaluated_gives_the_same_lora(client, server, kind):
    client.run(KINDS[kind](f"left_{kind}", 12), timeout=240)
    assert "steered" not in recipe_of(server, f"left_{kind}")
    run = f"looked_{kind}_00001"
    under_way = Watched(server, KINDS[kind](f"looked_{kind}", 12))
    until("it begins", lambda: "pave.run" in under_way.kinds())
    done = 0
    while under_way.thread.is_alive():
        for order in ("save", "evaluate", "pause", "go on"):
            done += post(client, run, order=order)[0] == 200
        time.sleep(0.05)
    under_way.end()
    assert done > 4
    assert metrics(server, f"looked_{kind}") == metrics(server, f"left_{kind}")
    assert same(lora(server, f"looked_{kind}"), lora(server, f"left_{kind}"))
    assert recipe_of(server, f"looked_{kind}")["steered"]


def test_cancel_works_while_a_run_is_paused_and_it_can_be_resumed(client, server):
    run = "held_00001"
    under_way = Watched(server, trained("held", 400))
    until("it trains", lambda: "pave.step" in under_way.kinds())
    post(client, run, order="pause")
    until("it is paused", lambda: seen(client, run)["paused"])
    started = time.monotonic()
    client.interrupt()
    assert "execution_interrupted" in under_way.end()
    assert time.monotonic() - started < 10
    assert seen(client, run)["status"] == "stopped"
    step = len(metrics(server, "held"))
    graph = trained("held", step + 1)
    graph["train"]["inputs"]["resume"] = run
    client.run(graph, timeout=120)
    assert recipe_of(server, "held")["steered"][0] == {"step": step, "order": "pause"}


def test_two_who_order_at_once_one_is_told(client, server):
    run = "both_00001"
    under_way = Watched(server, trained("both", 400))
    until("it trains", lambda: "pave.step" in under_way.kinds())
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(post(client, run, order="pause"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in answers) == [200] + 5 * [409]
    assert all("paused already" in answer["error"] for status, answer in answers if status == 409)
    assert post(client, run, order="finish")[0] == 200  # which ends the pause
    assert "execution_success" in under_way.end()


def test_what_cannot_be_ordered_is_refused_in_words(client, server):
    client.run(trained("still", 1), timeout=120)
    run = "still_00001"
    for order in ORDERS:
        status, answer = post(client, run, order=order)
        assert (status, "does not train now" in answer["error"]) == (409, True)
    assert post(client, "nothing_00001", order="save") == (404, {"error": "there is no run 'nothing_00001'"})
    for name in ("..", "%2e%2e%2fpave", "..%2finput", "x" * 3000, "%3Cimg%3E"):
        assert post(client, name, order="save")[0] in (404, 405)
    for body, expected in (
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"order": 1}', 400),
        (b'{"order": null}', 400),
        (b'{"order": "erase"}', 400),
        (b'{"order": "PAUSE"}', 400),
        (b'{"order": "<img src=x onerror=alert(1)>"}', 400),
        (b'{"order": "save", "step": 1}', 400),
        (b'{"order": "' + b"x" * 70_000 + b'"}', 413),
        (b"[" * 60_000, 400),
    ):
        status, answer = post(client, run, body=body)
        assert status == expected, body[:40]
        assert answer["error"]
    assert post(client, run, order="save", headers={"Content-Type": "text/plain"})[0] == 415
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert post(client, run, order="save", headers=headers)[0] == 403
    assert not (server.output / "pave" / run / "steering.jsonl").exists()
