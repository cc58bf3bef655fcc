"""Training graphs of step nodes in the real server: the same adapter as Pave Train, the cache, Cancel, refusals."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from _host.client import PromptError
from _training_graphs import RUN, Graph, composed, looped, lora, metrics, node, runs, same, trained


def test_a_loop_of_step_nodes_gives_bit_for_bit_the_adapter_of_pave_train(client, server):
    client.run(trained("as_one"), timeout=300)
    client.run(looped("as_loop"), timeout=300)
    assert len(metrics(server, "as_one")) == 3
    assert metrics(server, "as_loop") == metrics(server, "as_one")
    ours, theirs = lora(server, "as_loop"), lora(server, "as_one")
    assert any(value.abs().max() > 0 for key, value in ours.items() if "lora_B" in key)
    assert same(ours, theirs)


def test_queueing_the_same_graph_twice_trains_twice_from_the_start(client, server):
    graph = looped("twice", 2)
    for _ in range(2):
        client.run(copy.deepcopy(graph), timeout=300)
    assert len(runs(server, "twice")) == 2
    assert same(lora(server, "twice", 1), lora(server, "twice", 2))
    assert metrics(server, "twice", 1) == metrics(server, "twice", 2)


def test_a_change_behind_finish_does_not_train_again_and_one_before_it_does(client, server):
    graph = looped("behind", 2) | {"look": node("PreviewImage", images=["finish", 3])}
    first = client.run(copy.deepcopy(graph), timeout=300)
    assert first["look"]["images"]
    graph |= KSAMPLER
    second = client.run(copy.deepcopy(graph), timeout=300)
    assert second["picture"]["images"]
    graph["sampler"]["inputs"]["seed"] = 8
    client.run(copy.deepcopy(graph), timeout=300)
    assert len(runs(server, "behind")) == 1

    graph["advantage"]["inputs"]["scores"] = ["turned", 0]
    graph["turned"] = node("PaveScoresFromNumbers", numbers=["score", 1], name="sum", weight=-1.0)
    client.run(copy.deepcopy(graph), timeout=300)
    assert len(runs(server, "behind")) == 2
    assert not same(lora(server, "behind", 1), lora(server, "behind", 2))


KSAMPLER: Graph = {
    "text": node("CLIPTextEncode", text="a red circle on a dark background", clip=["tiny", 1]),
    "latent": node("EmptySD3LatentImage", width=64, height=64, batch_size=1),
    "sampler": node(
        "KSampler",
        model=["finish", 0],
        seed=7,
        steps=4,
        cfg=1.0,
        sampler_name="euler",
        scheduler="simple",
        positive=["text", 0],
        negative=["text", 0],
        latent_image=["latent", 0],
        denoise=1.0,
    ),
    "decoded": node("VAEDecode", samples=["sampler", 0], vae=["tiny", 2]),
    "picture": node("PreviewImage", images=["decoded", 0]),
}


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
    assert kept["cut_loop"] == kept["cut_node"] == {"checkpoint", "metrics", "events", "evaluations"}

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


# what is refused


def without_end(g: Graph) -> None:
    del g["end"]
    g["finish"]["inputs"]["state"] = ["step", 0]


def two_ends(g: Graph) -> None:
    g["end2"] = node("PaveLoopEnd", loop=["loop", 0], state=["step", 0])
    g["finish2"] = node("PaveFinish", state=["end2", 0])


def around_the_loop(g: Graph) -> None:
    g["end"]["inputs"]["state"] = ["begin", 0]


def crossed(g: Graph) -> None:
    g["loop2"] = node("PaveLoopBegin", state=["loop", 1], iterations=2)
    g["draw"]["inputs"]["state"] = g["loss"]["inputs"]["state"] = ["loop2", 1]
    g["end2"] = node("PaveLoopEnd", loop=["loop2", 0], state=["end", 0])
    g["finish"]["inputs"]["state"] = ["end2", 0]


def from_inside(g: Graph) -> None:
    g["late"] = node("ImageBlend", image1=["finish", 3], image2=["draw", 1], blend_factor=0.5, blend_mode="normal")
    g["look"] = node("PreviewImage", images=["late", 0])


def used_twice(g: Graph) -> None:
    g["loss2"] = node("PaveDecompositionLoss", state=["loop", 1], rollout=["draw", 0], advantages=["advantage", 0])
    g["step2"] = node("PreviewAny", source=["loss2", 1])


def another_state(g: Graph) -> None:
    g["draw"]["inputs"]["state"] = ["begin", 0]


def another_rollout(g: Graph) -> None:
    g["draw2"] = node("PaveRollout", state=["loop", 1])
    g["loss"]["inputs"]["rollout"] = ["draw2", 0]


def no_loss(g: Graph) -> None:
    del g["loss"]
    g["step"]["inputs"]["state"] = ["loop", 1]


def no_step(g: Graph) -> None:
    g["finish"]["inputs"]["state"] = ["begin", 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without_end,
            r"PaveLoopBegin \(node loop\): .*loop: this loop has no end: connect the loop socket to a Pave Loop End",
        ),
        (two_ends, r"PaveLoopBegin \(node loop\): .*loop: this loop has 2 ends \(nodes end, end2\): keep one"),
        (
            around_the_loop,
            r"PaveLoopEnd \(node end\): .*state: it does not come out of the loop that begins at node loop",
        ),
        (
            crossed,
            r"PaveLoopEnd \(node end\): .*loop: the loop that begins at node loop2 begins inside this one and does not "
            "end in it",
        ),
        (
            from_inside,
            r"PaveLoopEnd \(node end\): .*image2: node late \(ImageBlend\) runs after the loop and reads from node "
            "draw inside it",
        ),
        (
            used_twice,
            r"PaveDecompositionLoss \(node loss2?\): .*state: nodes loss2? and loss2? both change the state that node "
            "loop gives",
        ),
        (
            another_state,
            r"PaveDecompositionLoss \(node loss\): .*rollout: node draw samples from the state of node begin, this "
            "loss belongs to",
        ),
        (
            another_rollout,
            r"PaveDecompositionLoss \(node loss\): .*advantages: node advantage compares another rollout",
        ),
        (no_loss, r"PaveOptimizerStep \(node step\): .*state: it comes straight from node loop, with no gradient"),
        (no_step, r"PaveFinish \(node finish\): .*state: no training step comes before Pave Finish"),
    ],
)
def test_wires_that_cannot_work_are_refused_before_anything_runs(client, server, change, message):
    graph = looped("refused")
    change(graph)
    with pytest.raises(PromptError, match=message):
        client.queue(graph)
    assert not runs(server, "refused")


def too_few_numbers(g: Graph) -> None:
    g["one"] = node("ImageFromBatch", image=["draw", 1], batch_index=0, length=5)
    g["score"]["inputs"] |= {"images": ["one", 0], "prompts": "x"}


def no_number(g: Graph) -> None:
    g["graded"] = node("PaveScoresFromNumbers", numbers=["none", 0], name="x", weight=1.0)
    g["none"] = node("PrimitiveFloat", value=1.0)
    g["advantage"]["inputs"]["scores"] = ["graded", 0]


def another_run(g: Graph) -> None:
    """The loss of one run is fed the rollout of another, by a way on which the graph does not show it."""
    g["begin2"] = copy.deepcopy(g["begin"])
    g["draw2"] = node("PaveRollout", state=["begin2", 0])
    g["score2"] = node("PaveScore", reward=["reward", 0], images=["draw2", 1], prompts=["draw2", 2])
    g["advantage2"] = node("PaveAdvantage", rollout=["draw2", 0], scores=["score2", 0])
    g["loop"]["inputs"]["value"] = ["draw2", 0]
    g["advantage2"]["inputs"]["rollout"] = g["loss"]["inputs"]["rollout"] = ["loop", 2]
    g["loss"]["inputs"]["advantages"] = ["advantage2", 0]


def an_old_rollout(g: Graph) -> None:
    """The rollout of the first step goes around the loop."""
    g["draw"]["inputs"]["state"] = ["begin", 0]
    g["loop"]["inputs"]["value"] = g["end"]["inputs"]["value"] = ["draw", 0]
    g["advantage"]["inputs"]["rollout"] = g["loss"]["inputs"]["rollout"] = ["loop", 2]


def unused_gradient(g: Graph) -> None:
    g["loss_after"] = node(
        "PaveDecompositionLoss", state=["end", 0], rollout=["draw_after", 0], advantages=["advantage_after", 0]
    )
    g["draw_after"] = node("PaveRollout", state=["end", 0])
    g["score_after"] = node("PaveScore", reward=["reward", 0], images=["draw_after", 1], prompts=["draw_after", 2])
    g["advantage_after"] = node("PaveAdvantage", rollout=["draw_after", 0], scores=["score_after", 0])
    g["finish"]["inputs"]["state"] = ["loss_after", 0]


def the_same_name(g: Graph) -> None:
    g["graded"] = node("PaveScoresFromNumbers", numbers=["score", 1], name="clip", weight=1.0, scores=["score", 0])
    g["advantage"]["inputs"]["scores"] = ["graded", 0]


def of_other_images(g: Graph) -> None:
    g["first"] = node("ImageFromBatch", image=["draw", 1], batch_index=0, length=5)
    g["dark"] = node("PaveImageStatistic", images=["first", 0], statistic="mean")
    g["graded"] = node("PaveScoresFromNumbers", numbers=["dark", 0], name="dark", weight=1.0, scores=["score", 0])
    g["advantage"]["inputs"]["scores"] = ["graded", 0]


def per_step(g: Graph) -> None:
    g["optimizer"]["inputs"]["optimizer_step"] = "per_step"


def only_a_part_of_the_sigmas(g: Graph) -> None:
    g["sigmas"] = node("BasicScheduler", model=["tiny", 0], scheduler="simple", steps=4, denoise=0.5)
    g["rollout"]["inputs"]["sigmas"] = ["sigmas", 0]


def a_judge_alone(g: Graph) -> None:
    g["begin"]["inputs"]["judge"] = ["colour", 0]


def short_decay(g: Graph) -> None:
    g["optimizer"]["inputs"] |= {"schedule": "linear", "decay_steps": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            too_few_numbers,
            r"PaveAdvantage \(node advantage\): scores: clip has 5 for the 12 images of this rollout \(2 prompts x 2 "
            "branch",
        ),
        (no_number, r"PaveAdvantage \(node advantage\): scores: x has 1 for the 12 images"),
        (
            the_same_name,
            r"PaveScoresFromNumbers \(node graded\): name: 'clip' is the name of scores that these are added to",
        ),
        (of_other_images, r"PaveScoresFromNumbers \(node graded\): numbers: 5 beside 12 of clip"),
        (another_run, r"PaveDecompositionLoss \(node loss\): rollout: it was sampled by the run of another Pave Begin"),
        (an_old_rollout, r"rollout: it was sampled in step 1, the run is at step 2: connect this step's Pave Rollout"),
        (unused_gradient, r"PaveFinish \(node finish\): state: a gradient was accumulated and not used"),
        (per_step, r"PaveBegin \(node begin\): optimizer_step: per_step cannot be built from step nodes"),
        (
            only_a_part_of_the_sigmas,
            r"PaveBegin \(node begin\): sigmas: they begin at 0\.\d+: images are sampled from pure noise",
        ),
        (a_judge_alone, r"PaveBegin \(node begin\): judge: it is measured together with the reward"),
        (short_decay, r"PaveLoopBegin \(node loop\): decay_steps: 2 is below the 3 optimizer steps"),
    ],
)
def test_what_only_the_run_can_see_is_refused_by_the_node_at_fault(client, change, message):
    graph = looped("at_fault")
    change(graph)
    with pytest.raises(PromptError, match=message):
        client.run(graph, timeout=120)


@pytest.mark.parametrize(
    ("where", "values", "message"),
    [
        ("objective", {"segments": "2, 3", "segment_weights": "1"}, "segment_weights: 1 for 2 segments"),
        ("objective", {"segments": "1"}, "segments: 1 is below 2"),
        ("optimizer", {"schedule": "cosine", "decay_steps": 0}, "decay_steps: 0 is not above warmup_steps 0"),
        ("rollout", {"branch_steps": "0, 3"}, "branch_steps: 3 is the last of 4 steps"),
        ("begin", {"run_name": "../x"}, "run_name: '../x' is not a plain file name"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(client, where, values, message):
    graph = looped("unset")
    graph[where]["inputs"] |= values
    with pytest.raises(PromptError, match=message):
        client.queue(graph)


def test_a_file_without_a_recipe_is_refused(client, server):
    folder = server.output / "loras"
    folder.mkdir(exist_ok=True)
    save_file({"x": torch.zeros(1)}, folder / "foreign.safetensors")
    (folder / "broken.safetensors").write_bytes(b"nothing")
    graph = {"recipe": node("PaveLoRARecipe", lora=""), "text": node("PreviewAny", source=["recipe", 5])}
    for name, message in (
        ("foreign.safetensors", "lora: foreign.safetensors holds no recipe"),
        ("broken.safetensors", "lora: broken.safetensors cannot be read"),
        ("../../secret.safetensors", "is not in the LoRA folders"),
    ):
        graph["recipe"]["inputs"]["lora"] = name
        with pytest.raises(PromptError, match=message):
            client.queue(copy.deepcopy(graph))


def test_the_host_s_cache_keeps_few_of_a_loop_s_pictures(host, pack):
    """The real executor with its default cache, which holds what every node of every iteration gave until the graph is
    queued anew.
    """
    from concurrent.futures import ThreadPoolExecutor

    graph = looped("memory", 18)
    executor = host.execution.PromptExecutor(
        host.server, cache_type=host.execution.CacheType.CLASSIC, cache_args={"lru": 0, "ram": 16.0}
    )
    with ThreadPoolExecutor(1) as thread:
        thread.submit(executor.execute, graph, "memory", {}, ["finish"]).result()
    assert executor.success, executor.status_messages

    def entries(dump: list[dict[str, Any]]):
        for entry in dump:
            if "value" in entry:
                yield from entry["value"].outputs
            else:
                yield from entries(entry["subcache"])

    outputs = [
        value
        for slot in entries(executor.caches.outputs.recursive_debug_dump())
        for value in slot
        if isinstance(value, torch.Tensor)
    ]
    batches = [value for value in outputs if value.shape == (12, 64, 64, 3)]
    emptied = [value for value in outputs if value.numel() == 0]
    assert len(batches) == 1 + 3, "the first, and the newest with the two behind it"
    assert len(emptied) == 2 * (18 - 4), "pictures and anchors of the others"


def test_a_loop_runs_without_the_host_s_cache(client, server, comfyui, tmp_path):
    """As the README advises for graphs whose own pictures fill the memory."""
    import sys

    from _host.install import link_pack
    from _host.server import ComfyServer

    client.run(looped("cached", 3), timeout=300)
    link_pack(tmp_path / "custom_nodes", Path(__file__).resolve().parents[2])
    options = ("--disable-api-nodes", "--cache-none")
    with (
        ComfyServer(Path(sys.executable), comfyui, tmp_path / "server.log", base=tmp_path, options=options) as other,
        other.client() as uncached,
    ):
        uncached.run(looped("uncached", 3), timeout=300)
        assert same(lora(other, "uncached"), lora(server, "cached"))
