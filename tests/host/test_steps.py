"""Training graphs of step nodes in the real server: the adapter of Pave Train, Cancel, loops, any graph as reward."""

import pytest

from _training_graphs import RUN, Graph, composed, looped, lora, metrics, node, runs, same, trained


def test_a_loop_of_step_nodes_gives_bit_for_bit_the_adapter_of_pave_train(client, server):
    client.run(trained("as_one"), timeout=300)
    client.run(looped("as_loop"), timeout=300)
    assert len(metrics(server, "as_one")) == 3
    assert metrics(server, "as_loop") == metrics(server, "as_one")
    ours, theirs = lora(server, "as_loop"), lora(server, "as_one")
    assert any(value.abs().max() > 0 for key, value in ours.items() if "lora_B" in key)
    assert same(ours, theirs)


def cancel_after(client, graph: Graph, step: int) -> None:
    """Queue `graph` and interrupt it when `step` training steps are done."""
    prompt_id = client.queue(graph)
    kinds = []
    for event in client.events(prompt_id, timeout=300):
        kinds.append(event.kind)
        if event.kind == "pave.step" and event.data["step"] == step:
            client.interrupt()
    assert "execution_interrupted" in kinds


def test_cancel_in_a_loop_keeps_what_cancel_in_pave_train_keeps(client, server):
    client.run(looped("uncut", 6), timeout=300)
    kept = {}
    for name, graph in (
        ("cut_loop", looped("cut_loop", 50, reward=["reward", 0])),
        ("cut_node", trained("cut_node", 50)),
    ):
        cancel_after(client, graph, 2)
        done = len(metrics(server, name))
        checkpoint = server.output / "pave" / f"{name}_00001" / "checkpoint.safetensors"
        assert 2 <= done < 6
        assert any(value.abs().max() > 0 for key, value in lora(server, name).items() if "lora_B" in key)
        kept[name] = {path.name.split(".")[0] for path in checkpoint.parent.iterdir()}
        assert f"to go on, set resume to '{name}_00001'" in server.log.read_text()
    assert (
        kept["cut_loop"]
        == kept["cut_node"]
        == {*("checkpoint", "metrics", "events", "evaluations", "in_use", "curve", "summary", "measured", "group")}
    )

    done = len(metrics(server, "cut_loop"))
    client.run(looped("cut_loop", 6 - done, resume="cut_loop_00001", reward=["reward", 0]), timeout=300)
    assert metrics(server, "cut_loop") == metrics(server, "uncut")
    assert same(lora(server, "cut_loop"), lora(server, "uncut"))


def test_a_failure_between_our_nodes_keeps_the_work_too(client, server):
    graph = looped("broken", 3)
    # In the second iteration a stock node is to scale a picture of no width.
    graph |= {
        "one": node("PrimitiveString", value="x"),
        "none": node("PrimitiveString", value=""),
        "length": node("StringLength", string=["loop", 2]),
        "empty": node("EmptyImage", width=["length", 0], height=8, batch_size=1, color=0),
        "scaled": node("ImageScale", image=["empty", 0], upscale_method="area", width=16, height=16, crop="disabled"),
        "show": node("PreviewImage", images=["scaled", 0]),
    }
    graph["loop"]["inputs"]["value"], graph["end"]["inputs"]["value"] = ["one", 0], ["none", 0]
    errors = [
        event.data for event in client.events(client.queue(graph), timeout=300) if event.kind == "execution_error"
    ]
    assert "input has sizes" in errors[0]["exception_message"]
    assert len(metrics(server, "broken")) == 1
    assert lora(server, "broken")
    assert "Pave-GRPO ended before Pave Finish after step 1" in server.log.read_text()


def test_a_loop_longer_than_one_expansion_shows_every_iteration(client, server):
    graph = looped("long", 20, prompts_per_step=1)
    graph["rollout"]["inputs"] |= {"steps": 2, "branch_steps": "0", "group_size": 2}
    graph["view"] = node("PavePreviewGroup", advantages=["advantage", 0], rows=4)
    graph["said"] = node("StringConcatenate", string_a=["loop", 2], string_b="x", delimiter="")
    graph["nothing"] = node("PrimitiveString", value="")
    graph["loop"]["inputs"]["value"] = ["nothing", 0]
    graph["end"]["inputs"]["value"] = ["said", 0]
    graph["result"] = node("PreviewAny", source=["end", 1])
    prompt_id = client.queue(graph)
    shown = 0
    for event in client.events(prompt_id, timeout=300):
        assert event.kind != "execution_error", event.data
        shown += event.kind == "executed" and event.data["display_node"] == "view" and bool(event.data["output"])
    assert shown == 20
    assert [m["step"] for m in metrics(server, "long")] == list(range(1, 21))
    assert client.history(prompt_id)["outputs"]["result"]["text"] == ["x" * 20]


def test_a_loop_in_a_loop(client, server):
    graph = looped("nested", 2, prompts_per_step=1)
    graph["rollout"]["inputs"] |= {"steps": 2, "branch_steps": "0", "group_size": 2}
    graph["outer"] = node("PaveLoopBegin", state=["begin", 0], iterations=3)
    graph["loop"]["inputs"]["state"] = ["outer", 1]
    graph["outer_end"] = node("PaveLoopEnd", loop=["outer", 0], state=["end", 0])
    graph["finish"]["inputs"]["state"] = ["outer_end", 0]
    client.run(graph, timeout=300)
    assert [m["step"] for m in metrics(server, "nested")] == list(range(1, 7))


def test_several_rollouts_in_a_step_add_up(client, server):
    graph = looped("several", 5, prompts_per_step=1)
    graph |= {
        "draw2": node("PaveRollout", state=["loop", 1]),
        "dark": node("PaveImageStatistic", images=["draw2", 1], statistic="mean"),
        "graded": node("PaveScoresFromNumbers", numbers=["dark", 0], name="dark", weight=-1.0),
        "advantage2": node("PaveAdvantage", rollout=["draw2", 0], scores=["graded", 0]),
        "loss2": node("PaveDecompositionLoss", state=["loss", 0], rollout=["draw2", 0], advantages=["advantage2", 0]),
    }
    graph["step"]["inputs"]["state"] = ["loss2", 0]
    client.run(graph, timeout=300)
    assert [m["groups"] for m in metrics(server, "several")] == [4] * 5


def test_any_graph_from_image_to_number_is_a_reward(client, server):
    """The distance to a colour out of stock image nodes, beside a mix of rewards."""
    graph = looped("stock", 2)
    count = 2 * 2 * 3  # prompts, branch steps, group size
    graph |= {
        "target": node("EmptyImage", width=64, height=64, batch_size=count, color=0xFF8000),
        "difference": node(
            "ImageBlend", image1=["draw", 1], image2=["target", 0], blend_factor=1.0, blend_mode="difference"
        ),
        "number": node("PaveImageStatistic", images=["difference", 0], statistic="mean"),
        "graded": node(
            "PaveScoresFromNumbers", numbers=["number", 0], name="orange distance", weight=-1.0, scores=["score", 0]
        ),
        "seen": node("PreviewAny", source=["number", 0]),
    }
    graph["advantage"]["inputs"]["scores"] = ["graded", 0]
    client.run(graph, timeout=300)
    records = metrics(server, "stock")
    assert len(records) == 2
    assert set(records[0]["rewards"]) == {"clip", "colour", "orange distance"}
    means = {name: mean for name, (mean, spread) in records[0]["rewards"].items()}
    assert records[0]["reward_mean"] == pytest.approx(
        means["clip"] + 0.5 * means["colour"] - means["orange distance"], abs=1e-6
    )
    assert 0 < means["orange distance"] < 1
    assert any(value.abs().max() > 0 for key, value in lora(server, "stock").items() if "lora_B" in key)


def test_settings_on_wires_are_those_that_train(client, server):
    """A schedule of its own, plain GRPO and SGD, drawn and as one node; and a recipe gives them back."""
    for graph in (looped("own_loop", 2), trained("own_node", 2)):
        graph["sigmas"] = node("BasicScheduler", model=["tiny", 0], scheduler="beta", steps=4, denoise=1.0)
        graph["rollout"]["inputs"] |= {"sigmas": ["sigmas", 0], "steps": 7}
        graph["objective"]["inputs"] |= {"segments": "3, 2", "segment_weights": "0.5, 0", "plain_weight": 2.0}
        graph["optimizer"]["inputs"] |= {
            "optimizer": "SGD",
            "schedule": "cosine",
            "decay_steps": 5,
            "learning_rate": 0.5,
        }
        client.run(graph, timeout=300)
    assert same(lora(server, "own_loop"), lora(server, "own_node"))

    recipe: Graph = composed() | {
        "recipe": node("PaveLoRARecipe", lora="pave/own_node_00001.safetensors"),
        "again": node(
            "PaveTrainAdvanced",
            **RUN | {"run_name": "again", "iterations": 2, "policy": ["policy", 0], "reward": ["reward", 0]},
        ),
        "text": node("PreviewAny", source=["recipe", 5]),
    }
    recipe["policy"]["inputs"]["lora"] = ["recipe", 0]
    recipe["again"]["inputs"] |= {
        "rollout": ["recipe", 1],
        "objective": ["recipe", 2],
        "optimizer": ["recipe", 3],
        "prompts": ["recipe", 4],
    }
    text = client.run(recipe, timeout=300)["text"]["text"][0]
    assert "optimizer: SGD" in text
    assert "segment_weights: [0.0, 0.5]" in text
    assert same(lora(server, "again"), lora(server, "own_node"))


def test_looking_at_groups_without_training_leaves_nothing_behind(client, server):
    graph = looped("look_only")
    for name in ("loop", "loss", "step", "end", "finish"):
        del graph[name]
    graph["draw"]["inputs"]["state"] = ["begin", 0]
    graph["view"] = node("PavePreviewGroup", advantages=["advantage", 0], rows=4)
    assert client.run(graph, timeout=120)["view"]["images"]
    assert not runs(server, "look_only")
    assert not list((server.output / "loras" / "pave").glob("look_only*"))


def test_score_takes_any_images(client):
    graph = composed() | {
        "black": node("EmptyImage", width=64, height=32, batch_size=2, color=0),
        "orange": node("EmptyImage", width=32, height=32, batch_size=1, color=0xFF8000),
        "score": node("PaveScore", reward=["colour", 0], images=["black", 0], prompts="a prompt for all"),
        "out": node("PreviewAny", source=["score", 1]),
        "wrong": node("PaveScore", reward=["colour", 0], images=["orange", 0], prompts="one"),
        "best": node("PreviewAny", source=["wrong", 1]),
    }
    outputs = client.run(graph, timeout=60)
    assert len(outputs["out"]["text"]) == 2
    assert float(outputs["best"]["text"][0]) > 0.99 > 0.5 > float(outputs["out"]["text"][0])
