"""The simulated person of the bench, and what its clicks teach."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from _bench.report import person_table
from _bench.simulated import SimulatedPerson, utility
from _person import shape, shapes
from pave_core.person.choice import Choice

BENCH = Path(__file__).resolve().parents[2] / "tools" / "bench.py"
RED, BLUE = torch.tensor([0.9, 0.2, 0.1]), torch.tensor([0.2, 0.3, 0.9])


def test_large_is_liked_and_warm_is_liked():
    sizes = torch.stack([shape(RED, radius, 32, 32) for radius in (0, 6, 10, 14, 18)]) / 255
    values = utility(sizes).tolist()
    assert values == sorted(values)
    assert len(set(values)) == 5
    red, blue = utility(torch.stack([shape(colour, 10, 32, 32) for colour in (RED, BLUE)]) / 255)
    assert red > blue + 1
    here, there = utility(torch.stack([shape(RED, 10, *place) for place in ((20, 20), (40, 30))]) / 255)
    assert here.item() == pytest.approx(there.item(), abs=0.02)  # wherever it is


def test_the_best_is_clicked_and_one_in_ten_clicks_is_wrong():
    person = SimulatedPerson(Choice, seed=1)
    questions = [shapes(number, n=4) for number in range(1000)]
    choices = person.ask(questions)
    best = [int(utility(question.images / 255).argmax()) for question in questions]
    wrong = sum(choice.tiers[0] != (place,) for choice, place in zip(choices, best, strict=True))
    assert abs(wrong - 100) < 4 * (1000 * 0.1 * 0.9) ** 0.5
    assert all(sorted(itertools.chain(*choice.tiers)) == [0, 1, 2, 3] for choice in choices)
    assert person.ask(questions) == choices
    assert person.answered() == list(zip(questions, choices, strict=True))


def test_so_many_clicks_and_no_more():
    person = SimulatedPerson(Choice, seed=1, clicks=3)
    kinds = [choice.kind for choice in person.ask([shapes(number) for number in range(5)])]
    assert kinds == ["ranked"] * 3 + ["skipped"] * 2
    assert person.clicks == len(person.answered()) == 3


RUN = {
    **{"seed": 0, "clicks": 60, "curve": [[20, 0.1, 0.05], [60, 0.5, 0.05]], "gain": 0.5, "gain_se": 0.05},
    **{"alone_gain": 0.9, "alone_se": 0.06, "accuracy": 0.8, "accuracy_se": 0.03, "true_accuracy": 0.75},
    **{"adherence": [0.5, 0.4, 0.3], "asking_clicks": 44, "asking_gain": 0.45, "asking_se": 0.05, "seconds": 0.4},
}


def test_the_table_and_the_plot_have_every_person(tmp_path):
    from _bench.plots import plot_person

    rollout = {"steps": 4, "branch_steps": [0], "group_size": 12, "batch_size": 64}
    config = {
        "rollout": rollout,
        "pave": {"segments": []},
        "run": {"prompts_per_step": 2},
        "optim": {"learning_rate": 6e-4},
    }
    machine = {"device": "a CPU", "threads": 1, "comfyui": "0.3.75", "torch": "2"}
    record = {"command": "person", "machine": machine, "model": "tiny", "pixels": 64, "config": config}
    record["runs"] = [RUN, RUN | {"seed": 1, "gain": 0.7}]
    lines = [line for line in person_table(record).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 2
    assert len({line.count("|") for line in lines}) == 1
    assert "| +0.70 +- 0.05 | 14.0 |" in lines[3]
    plot_person(record, tmp_path / "person.png")
    assert (tmp_path / "person.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_sixty_clicks_raise_the_held_out_taste_by_five_standard_errors(comfyui, tmp_path):
    """One seed of the study in docs/BENCHMARKS.md."""
    file = tmp_path / "person.json"
    line = [sys.executable, str(BENCH), "person", "--here", "--cpu", "--comfyui", str(comfyui), "--json", str(file)]
    done = subprocess.run([*line, "--seeds", "1"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    (run,) = json.loads(file.read_text(encoding="utf-8"))["runs"]
    print(done.stdout.splitlines()[-1])
    assert run["clicks"] == 60
    assert run["gain"] > 5 * run["gain_se"]
    assert run["alone_gain"] > run["gain"]  # without a click
    assert run["accuracy"] - 5 * run["accuracy_se"] > 0.5
    assert run["asking_clicks"] < 60
    assert run["asking_gain"] > 5 * run["asking_se"]
