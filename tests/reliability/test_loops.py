"""Drawn loops under what a host may do to them: caches that forget, loops of its own, 0 iterations, many iterations."""

import copy
import json
import re

import pytest

from _host.client import PromptError
from _own_server import own_server
from _soak import soak
from _training_graphs import Graph, looped, lora, metrics, node, runs, same

COUNTING = '''
import logging


class CountedBegin:
    """Any input as it is, and a line in the log each time that it runs."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "give", ("PAVE_REWARD",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"reward": ("PAVE_REWARD",), "name": ("STRING", {"default": ""})}}

    def give(self, reward, name):
        logging.info(f"COUNTED {name}")
        return (reward,)


NODE_CLASS_MAPPINGS = {"CountedReward": CountedBegin}
'''


def small(name: str, iterations: int, **begin) -> Graph:
    """A loop of small steps whose reward says in the log when it runs."""
    graph = looped(name, iterations, prompts_per_step=1, **begin)
    graph["rollout"]["inputs"] |= {"steps": 2, "branch_steps": "0", "group_size": 2}
    graph["view"] = node("PavePreviewGroup", advantages=["advantage", 0], rows=4)
    return graph


def counted(graph: Graph) -> Graph:
    """`graph` with a node that counts its runs between the reward and all that take it."""
    for each in graph.values():
        for name, value in each["inputs"].items():
            if value == ["reward", 0]:
                each["inputs"][name] = ["counted", 0]
    graph["counted"] = node("CountedReward", reward=["reward", 0], name="reward")
    return graph


# 0.3.75 has --cache-ram too, and collects garbage once for each output that it drops: minutes a step.
CACHES = {
    "0.3": [("--cache-none",), ("--cache-lru", "10")],
    "0.33": [("--cache-none",), ("--cache-lru", "10"), ("--cache-ram", "100000", "100000"), ("--cache-classic",)],
}


@pytest.mark.long
def test_a_loop_trains_once_whatever_the_host_s_cache_forgets(client, server, comfyui, tmp_path):
    """Outputs that a cache drops while the graph runs are not asked for again: nothing outside the loop runs twice."""
    client.run(small("kept", 20, reward=["reward", 0]), timeout=600)
    newer = "ram_inactive" in (comfyui / "main.py").read_text()
    for number, options in enumerate(CACHES["0.33" if newer else "0.3"]):
        base = tmp_path / str(number)
        other = own_server(comfyui, base, *options)
        (base / "custom_nodes" / "counting.py").write_text(COUNTING)
        with other, other.client() as client2:
            client2.run(counted(small("kept", 20, reward=["reward", 0])), timeout=600)
            said = other.log.read_text()
            loaded = len(re.findall("COUNTED reward", said))
            print(f"{' '.join(options):32} runs {len(runs(other, 'kept'))}, the reward's node ran {loaded} times")
            assert len(runs(other, "kept")) == 1
            assert loaded == 1
            assert metrics(other, "kept") == metrics(server, "kept")
            assert same(lora(other, "kept"), lora(server, "kept"))


def test_a_drawn_run_that_is_done_is_finished_without_an_iteration(client, server):
    """0 iterations: nothing in the loop runs or is shown, and what is behind it gets the state as it was."""
    client.run(small("done", 3, reward=["reward", 0]), timeout=300)
    trained, steps = lora(server, "done"), metrics(server, "done")
    finish = small("done", 0, resume="done_00001", reward=["reward", 0])
    prompt_id = client.queue(finish)
    shown = set()
    for event in client.events(prompt_id, timeout=300):
        assert event.kind != "execution_error", event.data
        assert event.kind != "pave.step"
        if event.kind == "executed" and event.data["output"]:
            shown.add(event.data["display_node"])
    assert "view" not in shown
    assert len(runs(server, "done")) == 1
    assert same(lora(server, "done"), trained)
    assert metrics(server, "done") == steps
    summary = json.loads((server.output / "pave" / "done_00001" / "summary.json").read_text())
    assert summary["steps"] == 3
    assert same(lora(server, "done"), trained)


def test_a_loop_without_iterations_in_a_loop_is_skipped_and_the_run_goes_on(client, server):
    graph = small("skipped", 2)
    graph |= {
        "inner": node("PaveLoopBegin", state=["step", 0], iterations=0),
        "draw2": node("PaveRollout", state=["inner", 1]),
        "look": node("PreviewImage", images=["draw2", 1]),
        "score2": node("PaveScore", reward=["reward", 0], images=["draw2", 1], prompts=["draw2", 2]),
        "advantage2": node("PaveAdvantage", rollout=["draw2", 0], scores=["score2", 0]),
        "loss2": node("PaveDecompositionLoss", state=["inner", 1], rollout=["draw2", 0], advantages=["advantage2", 0]),
        "step2": node("PaveOptimizerStep", state=["loss2", 0]),
        "inner_end": node("PaveLoopEnd", loop=["inner", 0], state=["step2", 0]),
    }
    graph["end"]["inputs"]["state"] = ["inner_end", 0]
    outputs = client.run(graph, timeout=300)
    assert [record["step"] for record in metrics(server, "skipped")] == [1, 2]
    assert "look" not in outputs


def test_without_a_step_and_without_iterations_there_is_nothing_to_finish(client, server):
    with pytest.raises(PromptError, match="no training step was made.*a loop of 0 iterations finishes a run"):
        client.run(small("nothing", 0), timeout=300)
    image = node("EmptyImage", width=8, height=8, batch_size=1, color=0)
    client.run({"image": image, "look": node("PreviewImage", images=["image", 0])})  # the graph before has ended
    assert not (server.output / "pave" / "nothing_00001").exists()


def test_a_value_cannot_go_around_a_loop_without_iterations(client):
    graph = small("carried", 0)
    graph["said"] = node("StringConcatenate", string_a=["loop", 2], string_b="x", delimiter="")
    graph["loop"]["inputs"]["value"] = "y"
    graph["end"]["inputs"]["value"] = ["said", 0]
    with pytest.raises(PromptError, match="iterations: 0 makes no iteration, and node said in the loop"):
        client.run(graph, timeout=300)
    wired = copy.deepcopy(graph)
    wired["none"] = node("PrimitiveInt", value=0)
    wired["loop"]["inputs"]["iterations"] = ["none", 0]
    with pytest.raises(PromptError, match="iterations: 0 makes no iteration, and node said in the loop"):
        client.run(wired, timeout=300)


def test_what_the_page_is_told_grows_with_the_iterations_and_not_with_their_square(client, server):
    """How many there are also depends on how fast the machine is; how large they are does not."""
    size = {}
    for count in (16, 32):
        course = soak(server, client, small(f"told_{count}", count))
        size[count] = course.sent / course.messages
        print(
            f"{count:3} iterations: {course.messages} messages of {size[count]:.0f} bytes, {course.sent / 1e6:.2f} MB"
        )
        assert course.largest < 10_000
    assert size[32] < 1.25 * size[16]
