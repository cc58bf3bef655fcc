"""The door of the nodes: what comes over a wire is checked like what is typed, and a large graph in linear time."""

import json
import math
import time
from types import SimpleNamespace

import pytest
import torch

from _hostile import alive, post
from _training_graphs import SETTINGS, composed, looped, node


@pytest.fixture
def nodes(host, pack):
    return SimpleNamespace(
        **{name: kind for name, kind in host.nodes.NODE_CLASS_MAPPINGS.items() if name[:4] == "Pave"}
    )


def settings(modules, **values):
    return modules.config.RolloutConfig(**values)


COLOUR = {"red": 1.0, "green": 0.5, "blue": 0.0, "softness": 0.5}


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("PaveColour", COLOUR | {"red": math.nan}, "red: nan is not a number"),
        ("PaveColour", COLOUR | {"red": math.inf}, "red: inf is not a number"),
        ("PaveColour", COLOUR | {"red": 10**400}, "red: 1000.* is not a number"),
        ("PaveColour", COLOUR | {"red": 10**5000}, "red: a number of thousands of digits is not a number"),
        ("PaveColour", COLOUR | {"red": 1.5}, "red: 1.5 is above 1.0, the largest allowed"),
        ("PaveColour", COLOUR | {"red": torch.ones(1)}, r"red: tensor\(\[1.\]\) is not a number"),
        ("PaveColour", COLOUR | {"red": None}, "red: None is not a number"),
        ("PaveJPEGSize", {"prefer": {}}, "prefer: {} is not a text"),
        ("PaveJPEGSize", {"prefer": "none"}, "prefer: 'none' is not known: choose one of small files, large files"),
        ("PaveSaveLoRA", {"lora": {}, "name": "x"}, "lora: a dict came over the wire: connect the LoRA"),
        ("PaveSaveLoRA", {"lora": {"a": 1}, "name": "x"}, "lora: a dict came over the wire: connect the LoRA"),
        ("PaveSaveLoRA", {"lora": {"a": torch.ones(1)}, "name": "CON"}, "name: 'CON' is a device on Windows"),
        ("PaveFinish", {"state": "x"}, "state: a str came over the wire: connect the state of a Pave Begin"),
        ("PaveFinish", {"state": None}, "state: nothing came over the wire"),
        ("PaveImageStatistic", {"images": torch.ones(1, 8, 8), "statistic": "mean"}, "images: a Tensor came over"),
        ("PaveImageStatistic", {"images": torch.ones(0, 8, 8, 3), "statistic": "mean"}, "images: a Tensor came over"),
        ("PaveImageStatistic", {"images": torch.ones(1, 8, 8, 3), "statistic": "x"}, "statistic: 'x' is not known"),
        ("PaveScore", {"reward": [3], "images": [torch.ones(1, 8, 8, 3)], "prompts": ["a"]}, "reward: a int came over"),
        (
            "PaveScoresFromNumbers",
            {"numbers": [1.0], "name": ["x"], "weight": [math.nan]},
            "weight: nan is not a number",
        ),
        ("PaveScoresFromNumbers", {"numbers": [1.0], "name": ["\ud800"], "weight": [1.0]}, r"name: '\\ud800' holds a"),
        ("PaveScoresFromNumbers", {"numbers": [1.0], "name": ["a\nb"], "weight": [1.0]}, r"name: 'a\\nb' has several"),
        ("PaveScoresFromNumbers", {"numbers": [], "name": ["x"], "weight": [1.0]}, "numbers: nothing came over"),
        ("PavePolicy", {"model": 1, "clip": 2, "vae": 3}, "model: a int came over the wire: connect a MODEL"),
        ("PaveRolloutSettings", {"sigmas": torch.ones(4, 4)}, "sigmas: a Tensor came over the wire"),
        ("PaveRolloutSettings", {"sigmas": torch.linspace(1, 0, 1000)}, "sigmas: a Tensor came over the wire"),
        ("PaveRolloutSettings", {"steps": 10**18}, "steps: 1000000000000000000 is above 200"),
    ],
)
def test_what_comes_over_a_wire_is_checked_where_it_enters(nodes, modules, name, values, message):
    with pytest.raises(modules.errors.ConfigError, match=f"^{message}"):
        getattr(nodes, name).execute(**values)


def test_what_is_open_or_of_another_kind_of_number_is_taken(nodes, modules):
    import numpy as np

    colour = nodes.PaveColour.execute(**COLOUR | {"red": np.float32(0.5), "green": 1, "blue": "0.25"}).args[0]
    assert colour.describe()["red"] == 0.5
    scores = nodes.PaveScoresFromNumbers.execute(
        numbers=[1, 2.5, True], name=["x"], weight=[np.float64(2)], scores=None
    )
    assert scores.args[0].weights == (2.0,)


def crowd(count):
    """Losses on one state, each with its own output."""
    graph = composed() | {
        "begin": node("PaveBegin", **SETTINGS, **{"prompts_per_step": 1, "seed": 0, "run_name": "crowd"})
    }
    graph["begin"]["inputs"] |= {"resume": "none", "checkpoint_every": 25, "evaluation_seeds": 1, "evaluate_every": 0}
    graph |= {
        "draw": node("PaveRollout", state=["begin", 0]),
        "score": node("PaveScore", reward=["reward", 0], images=["draw", 1], prompts=["draw", 2]),
        "advantage": node("PaveAdvantage", rollout=["draw", 0], scores=["score", 0]),
    }
    for i in range(count):
        graph[f"loss{i}"] = node(
            "PaveDecompositionLoss", state=["begin", 0], rollout=["draw", 0], advantages=["advantage", 0]
        )
        graph[f"shown{i}"] = node("PreviewAny", source=[f"loss{i}", 1])
    return graph


def test_a_thousand_losses_on_one_state_are_refused_in_a_word(server):
    seconds, sizes = {}, {}
    for count in (500, 1000, 2000):
        begin = time.monotonic()
        status, reply = post(server, "/prompt", {"prompt": crowd(count)}, timeout=60)
        seconds[count], sizes[count] = time.monotonic() - begin, len(reply)
        assert status == 400
        errors = json.loads(reply)["node_errors"]
        assert list(errors) == ["begin"]
        assert f"state: {count} nodes (loss0, loss1, loss2, ...) change the state" in reply.decode()
    print("\n" + "\n".join(f"  {n:5} losses: {seconds[n]:.2f} s, {sizes[n] / 1000:.0f} kB" for n in seconds))
    assert sizes[2000] < 2.5 * sizes[1000]
    assert sizes[2000] < 500_000
    assert seconds[2000] < 3.5 * seconds[1000]


def test_the_message_is_said_once_for_a_node(server):
    """The host repeats what validate_inputs says for each input that it names."""
    graph = looped("once", iterations=1)
    graph["objective"]["inputs"]["segments"] = "1000000000"
    status, reply = post(server, "/prompt", {"prompt": graph})
    assert status == 400
    errors = json.loads(reply)["node_errors"]["objective"]["errors"]
    assert [error["details"] for error in errors] == [
        "segments - segments: 1000000000 is above 64, the largest allowed: 1 is the plain step, which is always there; "
        "leave the field empty for plain GRPO"
    ]
    assert alive(server, 2)
