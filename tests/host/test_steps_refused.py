"""Training graphs that are refused: before anything runs, or by the node at fault."""

import copy

import pytest
import torch
from safetensors.torch import save_file

from _host.client import PromptError
from _training_graphs import Graph, looped, node, runs


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
            "groups",
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
        (per_step, r"PaveBegin \(node begin\): .*optimizer_step: per_step cannot be built from step nodes"),
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
        ("objective", {"segments": "2, 3", "segment_weights": "1"}, "segment_weights: 1 with segments 2, 3"),
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
