"""The door of the nodes: what comes over a wire is checked like what is typed."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch


@pytest.fixture
def nodes(host, pack):
    kinds = host.nodes.NODE_CLASS_MAPPINGS
    return SimpleNamespace(**{name: kind for name, kind in kinds.items() if name.startswith("Pave")})


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
    colour = nodes.PaveColour.execute(**COLOUR | {"red": np.float32(0.5), "green": 1, "blue": "0.25"}).args[0]
    assert colour.describe()["red"] == 0.5
    scores = nodes.PaveScoresFromNumbers.execute(
        numbers=[1, 2.5, True], name=["x"], weight=[np.float64(2)], scores=None
    )
    assert scores.args[0].weights == (2.0,)
