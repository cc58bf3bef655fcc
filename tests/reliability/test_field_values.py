"""What a run does is what the graph says, and what became of the images is told whatever the reward says."""

import json

import pytest

from _training_graphs import RUN, SETTINGS, composed, metrics, node, with_settings

pytestmark = pytest.mark.server


def summary(server, run_name):
    (folder,) = (server.output / "pave").glob(f"{run_name}_*")
    return json.loads((folder / "summary.json").read_text("utf-8"))


def on_colour(run_name, rate, iterations):
    """A training on a colour alone, without a guard or a judge."""
    graph = with_settings(composed(), optimizer={"learning_rate": rate})
    run = RUN | {"run_name": run_name, "iterations": iterations, "evaluation_seeds": 8, "reward": ["colour", 0]}
    return graph | {
        "train": node("PaveTrainAdvanced", **SETTINGS | run),
        "told": node("PreviewAny", source=["train", 5]),
    }


def told(client, graph):
    return client.run(graph)["told"]["text"][0]


def test_where_the_reward_rises_and_the_pictures_die_the_summary_says_what_moved(client, server):
    said = told(client, on_colour("hacked", 1e-2, 15))
    found = summary(server, "hacked")
    print(said, json.dumps(found["image_change"], indent=1), sep="\n")
    assert found["reward_after"] > found["reward_before"] + 0.1
    (line,) = [line for line in said.splitlines() if "the images have changed much" in line]
    assert "%)" in line
    assert "Look at the grid" in line
    moved = {name for name, change in found["image_change"].items() if isinstance(change, dict) and name in line}
    assert moved
    assert all(abs(found["image_change"][name]["shift"]) > 1 for name in moved)
    assert ("lie apart" in line) == (found["image_change"]["drift"] > 0.75)


def test_a_run_that_hardly_changes_them_says_nothing(client, server):
    said = told(client, on_colour("mild", 1e-4, 2))
    assert "changed" not in said
    assert summary(server, "mild")["image_change"]["variety"] == pytest.approx(1, abs=0.1)


def small_train(client, **new):
    """Pave Train with a preset and what it shows for it."""
    shown = json.loads(client.get("/pave/presets"))["PaveTrain"]["quick"]
    required = client.object_info()["PaveTrain"]["input"]["required"]
    defaults = {name: o[0]["default"] for name, (_, *o) in required.items() if o and "default" in o[0]}
    small = {"width": 64, "height": 64, "evaluation_seeds": 1, "prompts_per_step": 1, "group_size": 3}
    wires = {name: ["tiny", i] for i, name in enumerate(("model", "clip", "vae"))}
    wires |= {"prompts": ["prompts", 0], "reward": ["colour", 0]}
    train = node("PaveTrain", **defaults | shown | small | wires | {"preset": "quick", "resume": "none"} | new)
    graph = {name: composed()[name] for name in ("tiny", "prompts", "colour")}
    return graph | {"train": train, "told": node("PreviewAny", source=["train", 5])}


@pytest.mark.parametrize("where", ["wire", "field"])
def test_a_value_that_differs_from_its_preset_runs(client, server, where):
    """A promoted widget and an API client do not tell the preset; a wire has no field to be shown in."""
    name = f"differs_{where}"
    value = ["three", 0] if where == "wire" else 3
    rank = ["rank", 0] if where == "wire" else 3
    graph = small_train(client, run_name=name, iterations=value, rank=rank) | {
        "three": node("PrimitiveInt", value=3),
        "rank": node("PrimitiveInt", value=3),
    }
    client.run(graph)
    assert len(metrics(server, name)) == 3
    assert "preset quick was changed: iterations 3 instead of" in server.log.read_text("utf-8")


def test_a_settings_node_takes_a_wire_over_its_preset_too(client, server):
    rollout = composed()["rollout"]["inputs"] | {"preset": "flow-grpo", "group_size": ["three", 0]}
    graph = on_colour("wired_settings", 1e-3, 1) | {
        "rollout": node("PaveRolloutSettings", **rollout),
        "three": node("PrimitiveInt", value=3),
    }
    client.run(graph)
    assert "group_size 3 instead of" in server.log.read_text("utf-8")
    (record,) = metrics(server, "wired_settings")
    assert record["groups"] > 0
