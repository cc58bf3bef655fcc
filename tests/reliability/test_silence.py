"""What takes long says how far it is: in the node's progress bar, in an event for the page, and in the log."""

import pytest

from _training_graphs import PROMPTS, RUN, SETTINGS, Graph, composed, looped, node, trained

COUNT = 12
"""Prompts, of which a third is held out; with 2 seeds each, that is 8 held-out images."""


def many(graph: Graph, lines: int = COUNT) -> Graph:
    text = "\n".join(f"{PROMPTS.splitlines()[i % 3]}, number {i}" for i in range(lines))
    graph["prompts"]["inputs"] |= {"text": text, "held_out": 1 / 3}
    graph["rollout"]["inputs"] |= {"steps": 2, "branch_steps": "0", "group_size": 2}
    return graph


def compared() -> Graph:
    return composed() | {
        "compare": node(
            "PaveCompare",
            model_a=["tiny", 0],
            model_b=["tiny", 0],
            clip=["tiny", 1],
            vae=["tiny", 2],
            prompts=["prompts", 0],
            reward=["reward", 0],
            seeds=2,
            steps=2,
            width=64,
            height=64,
            cfg=1.0,
            label_a="before",
            label_b="after",
            batch_size=16,
            negative_prompt="",
            guidance=3.5,
            scheduler="simple",
        ),
        "shown": node("PreviewImage", images=["compare", 0]),
    }


def checked() -> Graph:
    wires = {name: SETTINGS[name] for name in ("policy", "prompts", "rollout")}
    return composed() | {"check": node("PaveCheckReward", **wires, reward=["reward", 0], seed=RUN["seed"])}


ENCODING, MEASURING, CHECKING = ("encoding", COUNT), ("measuring", COUNT // 3 * 2), ("checking the reward", 3)
PHASES = {
    "train": (lambda: trained("loud_train", 2), [ENCODING, CHECKING, MEASURING]),
    "begin": (lambda: looped("loud_loop", 2, reward=["reward", 0]), [ENCODING, CHECKING, MEASURING]),
    "compare": (compared, [("encoding", COUNT // 3), MEASURING]),
    "check": (checked, [CHECKING]),
}


@pytest.mark.parametrize("name", PHASES)
def test_each_phase_says_how_far_it_is(client, server, name):
    make, phases = PHASES[name]
    told, bars = [], []
    for event in client.events(client.queue(many(make())), timeout=300):
        assert event.kind != "execution_error", event.data
        if event.kind == "pave.progress":
            told.append((event.data["node"], event.data["what"], event.data["done"], event.data["whole"]))
        if event.kind == "progress":
            bars.append((event.data["value"], event.data["max"]))
    print(f"{name}: {', '.join(dict.fromkeys(f'{what} ... of {whole}' for _, what, _, whole in told))}")
    for phase in phases:
        mine = [done for _, what, done, whole in told if (what, whole) == phase]
        assert mine, phase
        assert mine[-1] == phase[1]
    assert {node for node, *_ in told} >= {name}
    if name in ("train", "begin"):
        assert "Pave-GRPO measuring 4 prompts x 2 seeds = 8 images" in server.log.read_text()
