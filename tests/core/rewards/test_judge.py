"""The judge against real servers: order, batches, retries, who abstains, and Cancel."""

import json
import logging
import math
import threading
import time

import pytest

from _judge_server import IMAGES, PROMPTS, SOON, decoded, judge, silent, trickle
from pave_core.errors import ConfigError, TrainingError
from pave_core.rewards.http.apis import Chat, Scorer
from pave_core.rewards.http.replies import ParseRule


def test_a_chat_is_asked_as_openai_says_and_scores_keep_the_images_order(serve):
    def behave(request):
        time.sleep(0.2 + 0.05 * (4 - PROMPTS.index(request.text.split()[-1])))  # the first image is answered last
        request.say(f"I see grey {request.image[0, 0, 0]}, so: {request.image[0, 0, 0] / 10}")

    server = serve(behave)
    api = Chat("my-model", "Rate {prompt} {0} {prompt}", max_tokens=77)
    scores = judge(f"{server.url}/v1", api=api, concurrency=5)(IMAGES, PROMPTS)
    assert scores.tolist() == pytest.approx([0, 6.4, 12.8, 19.1, 25.5])
    assert len(server.requests) == 5
    first = next(r for r in server.requests if r.text == "Rate zero {0} zero")
    assert first.path == "/v1/chat/completions"
    assert (first.body["model"], first.body["temperature"], first.body["max_tokens"]) == ("my-model", 0, 77)
    assert first.image.shape == (8, 12, 3)
    assert "Authorization" not in first.headers


def test_no_more_requests_than_allowed_are_under_way_at_once(serve):
    lock, counts = threading.Lock(), {"now": 0, "most": 0}

    def behave(request):
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts.values())
        time.sleep(0.03)
        with lock:
            counts["now"] -= 1  # before the answer, after which the next one may come
        request.say("1")

    judge(serve(behave).url, concurrency=2)(IMAGES, PROMPTS)
    assert counts["most"] == 2


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


def test_one_image_that_a_scorer_cannot_score_does_not_spoil_its_batch(serve):
    server = serve(lambda request: request.answer({"scores": [1, None, 3]}))
    reward = judge(server.url, api=Scorer(3))
    assert reward(IMAGES[:3], PROMPTS[:3]).nan_to_num(-9).tolist() == [1, -9, 3]
    assert reward.failures == {"no score for an image": 1}


def test_what_cannot_get_better_is_not_asked_again_and_what_can_is(serve):
    for status, asked in ((400, 1), (401, 1), (404, 1), (307, 1), (408, 4), (429, 4), (500, 4), (503, 4)):
        server = serve(lambda request, status=status: request.answer({}, status))
        with pytest.raises(TrainingError, match=f"HTTP {status}"):
            judge(server.url, retries=3)(IMAGES[:1], PROMPTS[:1])
        assert len(server.requests) == asked, status


class CancelledError(Exception):
    pass


@pytest.mark.parametrize("behave", [silent, trickle, lambda request: request.answer({}, 429, Retry_After="30")])
def test_cancel_does_not_wait_for_the_server(serve, behave):
    server = serve(behave)
    begin = time.monotonic()

    def check():
        if time.monotonic() - begin > 0.3:
            raise CancelledError

    with pytest.raises(CancelledError):
        judge(server.url, timeout=60, retries=3, concurrency=2, check=check)(IMAGES, PROMPTS)
    assert time.monotonic() - begin < SOON
    deadline = time.monotonic() + SOON
    while any(thread.name.startswith("pave-judge") for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "its threads live on"
        time.sleep(0.02)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: judge("http://127.0.0.1", concurrency=0), "concurrency"),
        (lambda: judge("http://127.0.0.1", concurrency=65), "concurrency"),
        (lambda: judge("http://127.0.0.1", concurrency=2.0), "concurrency"),
        (lambda: judge("http://127.0.0.1", concurrency=True), "concurrency"),
        (lambda: judge("http://127.0.0.1/v1/chat/completions"), "base_url"),
        (lambda: judge("http://127.0.0.1/score/", api=Scorer()), "base_url"),
    ],
)
def test_settings_that_cannot_work_are_refused(no_network, make, field):
    with pytest.raises(ConfigError, match=rf"^{field}: .*: .+"):
        make()


def test_a_recipe_has_the_judges_settings():
    described = judge("http://127.0.0.1:1/v1", ParseRule("json key", "a.b")).describe()
    assert json.loads(json.dumps(described))["rule"] == {"kind": "json key", "pattern": "a.b"}
    assert described["base_url"] == "http://127.0.0.1:1/v1"
    assert judge("http://127.0.0.1:1", api=Scorer()).describe() == {"base_url": "http://127.0.0.1:1", "api": "scores"}
