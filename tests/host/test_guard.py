"""Guard and reward check as nodes, through the real server: a loop of nodes ends where Pave Train ends, and the report
is shown.
"""

import json

import pytest

from _host.client import PromptError
from _training_graphs import composed, looped, lora, metrics, node, same, trained

AGAINST = {
    "against": node("PaveStatisticsReward", statistic="contrast", direction="more", target=0.0),
    "guard": node(
        "PaveGuard", held_out=["against", 0], every=2, action="stop", max_drop=2.5, max_drift=0.0, max_change=0.0
    ),
}
"""A guard whose held-out reward falls as the colour that is trained on rises."""


def guarded(graph, where: str):
    graph |= AGAINST
    graph[where]["inputs"] |= {"guard": ["guard", 0], "reward": ["colour", 0]}
    if "score" in graph:
        graph["score"]["inputs"]["reward"] = ["colour", 0]
    return graph


def readings(server, run_name: str):
    lines = (server.output / "pave" / f"{run_name}_00001" / "guard.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_guard_ends_a_drawn_loop_where_it_ends_pave_train(client, server):
    client.run(guarded(trained("guarded_node", 30), "train"), timeout=600)
    client.run(
        guarded(looped("guarded_loop", 30), "begin") | {"text": node("PreviewAny", source=["finish", 4])}, timeout=600
    )
    steps = len(metrics(server, "guarded_node"))
    assert steps < 30
    *calm, last = readings(server, "guarded_node")
    assert calm
    assert last["alarms"]
    assert metrics(server, "guarded_loop") == metrics(server, "guarded_node")
    assert readings(server, "guarded_loop") == readings(server, "guarded_node")
    ours, theirs = lora(server, "guarded_loop"), lora(server, "guarded_node")
    assert any(value.abs().max() > 0 for key, value in ours.items() if "lora_B" in key)
    assert same(ours, theirs)


def test_a_guard_needs_a_reward_that_measures(client):
    graph = guarded(looped("unmeasured"), "begin")
    del graph["begin"]["inputs"]["reward"]
    with pytest.raises(
        PromptError,
        match=r"PaveBegin \(node begin\): guard: it is measured together with the reward: connect a reward as well",
    ):
        client.run(graph, timeout=120)


def test_the_check_says_what_a_reward_can_do(client):
    graph = composed() | {
        "check": node(
            "PaveCheckReward",
            policy=["policy", 0],
            prompts=["prompts", 0],
            reward=["reward", 0],
            rollout=["rollout", 0],
            seed=0,
        ),
        "report": node("PreviewAny", source=["check", 0]),
        "sheet": node("PreviewImage", images=["check", 2]),
        "verdict": node("PreviewAny", source=["check", 1]),
    }
    outputs = client.run(graph, timeout=300)
    (report,) = outputs["report"]["text"]
    assert "This reward can tell your images apart" in report
    assert "clip and colour: correlation" in report
    assert outputs["verdict"]["text"] == ["True"]
    assert outputs["sheet"]["images"]


def test_a_reward_that_cannot_teach_stops_the_run_before_it_begins(client, server):
    graph = trained("unteachable")
    graph["train"]["inputs"]["reward"] = ["judge", 0]
    graph["judge"] = node("PaveTinyAdherence")
    graph["train"]["inputs"]["evaluation_seeds"] = 16
    graph["rollout"]["inputs"]["eta"] = 0.01  # branches that hardly differ: the classifier sees the same in all
    with pytest.raises(
        PromptError, match="reward: it cannot tell your images apart: it gives all images of a group the same number"
    ):
        client.run(graph, timeout=300)
    assert not list((server.output / "pave").glob("unteachable_*"))
    graph["train"]["inputs"]["check_reward"] = False
    client.run(graph, timeout=300)
    assert list((server.output / "pave").glob("unteachable_*"))
