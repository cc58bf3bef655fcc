"""A person as the reward on the real server, by its routes."""

import io
import json

import pytest
from PIL import Image

from _person_answers import Person, asking, person_node, until
from _training_graphs import PROMPTS, looped, lora, metrics, node, runs, same, trained, with_settings

QUESTIONS = 2  # a step: one for each prompt


def ended(client, prompt_id) -> str:
    """How a prompt has ended: "success" or "error"."""
    for _ in client.events(prompt_id, timeout=120):
        pass
    status = client.history(prompt_id)["status"]
    if status["status_str"] != "success":
        print(status["messages"])
    return status["status_str"]


def kept(server, name, number=1):
    """(the lines of clicks.jsonl, the names of the pictures) of a run."""
    folder = server.output / "pave" / f"{name}_{number:05}" / "person"
    lines = [json.loads(line) for line in (folder / "clicks.jsonl").read_text().splitlines()]
    return lines, sorted(path.name for path in (folder / "pictures").iterdir())


@pytest.fixture
def person(client):
    return Person(client.url)


@pytest.fixture
def train(client):
    """train(graph) queues it; what is not at its end by then is cancelled."""
    queued = []

    def run(graph):
        queued.append(client.queue(graph))
        return queued[-1]

    yield run
    client.interrupt()
    for prompt_id in queued:
        until(lambda prompt_id=prompt_id: prompt_id in json.loads(client.get(f"/history/{prompt_id}")))


def test_a_run_learns_from_what_is_clicked_and_keeps_it(server, client, person, train):
    prompt_id = train(asking("person_clicked", 3))
    key, keys = None, []
    for _ in range(3 * QUESTIONS):
        question = person.asked(key)
        key = question["key"]
        keys.append(key)
        assert question["images"] == 6
        state = person.state()
        assert state["run"] == "person_clicked_00001"
        assert state["answered"] == len(keys) - 1
        status, content = person.image(key, 5)
        assert status == 200
        picture = Image.open(io.BytesIO(content))
        assert (picture.format, picture.size) == ("JPEG", (64, 64))
        person.answer(question, 1)
    assert ended(client, prompt_id) == "success"
    assert len(set(keys)) == len(keys)
    lines, pictures = kept(server, "person_clicked")
    assert [line["key"] for line in lines] == keys
    assert all(line["choice"] == {"kind": "ranked", "tiers": [[1], [0, 2, 3, 4, 5]]} for line in lines)
    assert [(line["step"], line["seed"]) for line in lines] == [
        (step, 3) for step in (1, 2, 3) for _ in range(QUESTIONS)
    ]
    assert {line["prompt"] for line in lines} <= set(PROMPTS.split("\n"))
    assert len(pictures) == 6 * len(keys)
    records = [
        json.loads(line) for line in (runs(server, "person_clicked")[0] / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(record["grad_norm"] > 0 and record["unscored"] == 0 for record in records)
    assert person.state()["question"] is None
    assert (runs(server, "person_clicked")[0] / "person" / "taste.safetensors").is_file()
    tastes = client.object_info()["PaveTaste"]["input"]["required"]["taste"]
    assert "person_clicked_00001" in json.dumps(tastes)


def test_a_taste_is_a_reward_of_its_own(server, client, person, train):
    prompt_id = train(asking("person_tasted", 3))
    key = None
    for _ in range(3 * QUESTIONS):
        question = person.asked(key)
        key = question["key"]
        person.answer(question, 0)
    ended(client, prompt_id)
    graph = trained("person_with_taste", 1)
    taste = node("PaveTaste", taste="person_tasted_00001", checkpoint="bundled tiny CLIP", architecture="auto")
    for unused in ("colour", "clip"):
        del graph[unused]
    assert ended(client, train(graph | {"reward": taste})) == "success"
    summary = json.loads((runs(server, "person_with_taste")[0] / "summary.json").read_text())
    assert summary["steps"] == 1


def test_what_is_picked_is_kept_and_one_answer_counts(person, train):
    train(asking("person_drafted", 2))
    question = person.asked()
    key = question["key"]
    status, state = person.post("draft", {"key": key, "picked": [4, 2], "ranking": True})
    assert (status, state["question"]["picked"], state["question"]["ranking"]) == (200, [4, 2], True)
    assert person.state()["question"]["picked"] == [4, 2]
    person.answer(question, 4)
    status, refusal = person.post("answer", {"key": key, "choice": {"kind": "none", "tiers": []}})
    assert status == 409
    assert "the first answer counts" in refusal["error"]
    second = person.asked(key)
    status, state = person.post("undo", {})
    assert (status, state["said"]) == (200, "You are asked again.")
    assert (state["question"]["key"], state["question"]["picked"]) == (key, [4])
    person.answer(question, 3)
    assert person.asked(key)["key"] == second["key"]


def test_an_answer_that_was_learnt_from_can_be_taken_back(server, client, person, train):
    prompt_id = train(asking("person_taken_back", 1))
    key, keys = None, []
    for _ in range(QUESTIONS):
        question = person.asked(key)
        key = question["key"]
        keys.append(key)
        person.answer(question, 0)
    assert ended(client, prompt_id) == "success"
    status, state = person.post("undo", {})
    assert status == 200
    assert "has learnt from it already" in state["said"]
    assert state["answered"] == 1
    assert [line.get("withdrawn", False) for line in kept(server, "person_taken_back")[0]] == [False, False, True]
    assert person.post("undo", {})[0] == 409


def test_none_and_skip_teach_nothing(server, client, person, train):
    prompt_id = train(asking("person_unjudged", 1))
    key = None
    for kind in ("none", "skipped"):
        key = person.asked(key)["key"]
        assert person.post("answer", {"key": key, "choice": {"kind": kind, "tiers": []}})[0] == 200
    assert ended(client, prompt_id) == "success"
    (record,) = metrics(server, "person_unjudged")
    assert (record["unscored"], record["grad_norm"]) == (12, 0)


def test_cancel_loses_no_answer_and_a_resumed_run_asks_only_what_was_not_answered(server, client, person, train):
    prompt_id = train(asking("person_cut", 3))
    key, keys = None, []
    for _ in range(QUESTIONS + 1):  # the first step, and one of two questions of the second
        question = person.asked(key)
        key = question["key"]
        keys.append(key)
        person.answer(question, 2)
    waiting = person.asked(key)
    person.post("draft", {"key": waiting["key"], "picked": [5], "ranking": False})
    client.interrupt()
    ended(client, prompt_id)
    assert person.state()["question"] is None
    assert [line["key"] for line in kept(server, "person_cut")[0]] == keys

    graph = with_settings(asking("person_cut", 3), train={"resume": "person_cut_00001"})
    prompt_id = train(graph)
    question = person.asked()
    assert question["key"] == waiting["key"], "what was answered is not asked again"
    assert question["picked"] == [5]
    while question:
        key = question["key"]
        person.answer(question, 2)
        keys.append(key)
        question = len(keys) < 3 * QUESTIONS and person.asked(key)
    assert ended(client, prompt_id) == "success"
    cut = lora(server, "person_cut")

    prompt_id = train(asking("person_whole", 3))
    key = None
    for _ in range(3 * QUESTIONS):
        question = person.asked(key)
        key = question["key"]
        person.answer(question, 2)
    assert ended(client, prompt_id) == "success"
    assert [line["key"] for line in kept(server, "person_whole")[0]] == keys, "the same images were asked about"
    assert metrics(server, "person_whole") == metrics(server, "person_cut"), "the same steps"
    assert same(cut, lora(server, "person_whole")), "the same clicks, the same LoRA"


def test_what_was_answered_before_the_first_step_is_there_for_the_next_run(server, client, person, train):
    prompt_id = train(asking("person_early", 1))
    first = person.asked()
    person.answer(first, 2)
    second = person.asked(first["key"])
    client.interrupt()
    ended(client, prompt_id)
    prompt_id = train(asking("person_early", 1))
    again = person.asked()
    assert again["key"] == second["key"]
    person.answer(again, 2)
    assert ended(client, prompt_id) == "success"
    lines = kept(server, "person_early", 2)[0]
    assert [line["key"] for line in lines] == [first["key"], second["key"]]


def test_a_drawn_loop_asks_too(server, client, person, train):
    graph = looped("person_drawn", 1)
    graph["reward"] = person_node()
    graph["begin"]["inputs"].pop("reward", None)
    prompt_id = train(graph)
    key = None
    for _ in range(QUESTIONS):
        question = person.asked(key)
        key = question["key"]
        person.answer(question, 1)
    assert ended(client, prompt_id) == "success"
    assert len(kept(server, "person_drawn")[0]) == QUESTIONS


def test_the_next_images_are_sampled_while_the_person_looks(server, client, person, train):
    graph = with_settings(asking("person_ahead", 2), train={"sample_ahead": True}, objective={"ratio": "clip"})
    prompt_id = train(graph)
    key = None
    for _ in range(2 * QUESTIONS):
        question = person.asked(key)
        key = question["key"]
        person.answer(question, 1)
    assert ended(client, prompt_id) == "success"
    summary = json.loads((runs(server, "person_ahead")[0] / "summary.json").read_text())
    assert summary["steps"] == 2


def test_orders_are_obeyed_while_a_person_is_waited_for(server, client, person, train):
    prompt_id = train(asking("person_steered", 3))
    key = None
    for _ in range(QUESTIONS):
        question = person.asked(key)
        key = question["key"]
        person.answer(question, 1)
    person.asked(key)
    waits = {"what": "waiting for you", "done": 0, "whole": QUESTIONS}
    until(lambda: json.loads(client.get("/pave/runs/person_steered_00001"))["phase"] == waits)
    client.post("/pave/runs/person_steered_00001/steer", {"order": "finish"})
    assert ended(client, prompt_id) == "success"
    assert person.state()["question"] is None
    summary = json.loads((runs(server, "person_steered")[0] / "summary.json").read_text())
    assert (summary["steps"], summary["steered"]) == (1, [{"step": 1, "order": "finish"}])


BAD = [
    ("answer", {"key": "x", "choice": {"kind": "none", "tiers": []}}, 409),
    ("answer", {"key": "KEY", "choice": {"kind": "none", "tiers": [[0]]}}, 400),
    ("answer", {"key": "KEY", "choice": {"kind": "ranked", "tiers": [[0], [0]]}}, 400),
    ("answer", {"key": "KEY", "choice": {"kind": "ranked", "tiers": [[99]]}}, 400),
    ("answer", {"key": "KEY", "choice": {"kind": "ranked", "tiers": [[-1], [1]]}}, 400),
    ("answer", {"key": "KEY", "choice": {"kind": "ranked", "tiers": [[True], [1]]}}, 400),
    ("answer", {"key": "KEY", "choice": {"kind": "<img src=x>", "tiers": []}}, 400),
    ("answer", {"key": "KEY", "choice": []}, 400),
    ("answer", {"key": "KEY"}, 400),
    ("answer", b"{", 400),
    ("answer", b'{"key": "' + b"x" * 70_000 + b'"}', 413),
    ("draft", {"key": "KEY", "picked": [99], "ranking": False}, 400),
    ("draft", {"key": "KEY", "picked": ["a"], "ranking": False}, 400),
    ("draft", {"key": "KEY", "picked": [1, 1], "ranking": False}, 400),
    ("draft", {"key": "KEY", "picked": [1], "ranking": 1}, 400),
    ("undo", {"more": 1}, 400),
    ("undo", {}, 409),
]


def test_nothing_but_an_answer_is_taken(person, train):
    train(asking("person_hostile", 1))
    key = person.asked()["key"]
    for what, body, status in BAD:
        if isinstance(body, dict):
            body = {k: key if v == "KEY" else v for k, v in body.items()}
        answered, reply = person.post(what, body)
        assert answered == status, (what, body, reply)
        assert reply["error"]
    answer = {"key": key, "choice": {"kind": "none", "tiers": []}}
    assert person.post("answer", answer, Origin="http://evil.example")[0] == 403
    assert person.post("answer", answer, Sec_Fetch_Site="cross-site")[0] == 403
    assert person.post("answer", answer, Content_Type="text/plain")[0] == 415
    for place in ("6", "-1", "1e3", "x", "..", "%2e%2e", "9" * 400):
        assert person.image(key, place)[0] == 404
    assert person.image("0" * 32, 0)[0] == 404
    assert person.state()["question"]["key"] == key
    assert person.state()["answered"] == 0
