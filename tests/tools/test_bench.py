"""tools/bench.py as a user runs it, in miniature on the CPU; its experiments and settings, and what it watches."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from _bench.campaign import base_config
from _bench.experiments import COMPARISONS, EQUAL_RATE, EXPERIMENTS, LEARNING_RATES, chosen
from _bench.results import append, load
from _bench.settings import SettingError, parsed, replaced
from _bench.watch import Watch, phases_of
from _bench_records import GRPO, PAVED, searched
from _cuda.calls import NetworkCalls
from _toy import ToyTraining

BENCH = Path(__file__).resolve().parents[2] / "tools" / "bench.py"


def bench(comfyui: Path, command: str, *options: str | Path) -> str:
    """What a command prints, on the CPU."""
    line = [sys.executable, str(BENCH), command, "--here", "--comfyui", str(comfyui), *map(str, options)]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(line, capture_output=True, text=True, env=env, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return done.stdout


# the commands on the real host


@pytest.mark.slow
def test_speed_counts_every_evaluation_and_has_seconds_for_every_phase(comfyui, tmp_path):
    file = tmp_path / "speed.json"
    small = {"rollout.steps": "4", "rollout.branch_steps": "[0,1]", "rollout.group_size": "3"}
    small |= {"run.prompts_per_step": "2", "pave.segments": "[2,3]"}
    options = [part for name, value in small.items() for part in ("--set", f"{name}={value}")]
    printed = bench(comfyui, "speed", "--pairs", "1", "--json", file, *options)
    record = json.loads(file.read_text(encoding="utf-8"))
    P, K, G, T = 2, 2, 3, 4
    phases = record["phases"]
    assert phases["anchor"]["evaluations"] == P * T
    assert phases["tails"]["evaluations"] == P * G * (3 + 2)  # after branch steps 0 and 1 of 4
    assert phases["rollout"]["network_evaluations"] == P * T + P * G * (3 + 2)
    assert phases["update"]["network_evaluations"] == P * K * (1 + 1 + 2)  # 1 + sum(n - 1) for n in {2, 3}
    assert phases["decode"]["evaluations"] == P * (K * G + 1)
    assert all(phases[name]["seconds"] > 0 for name in ("rollout", "decode", "reward", "update", "optimizer"))
    assert sum(phases[name]["seconds"] for name in ("rollout", "decode", "reward", "update", "optimizer", "other")) == (
        pytest.approx(record["step_seconds"])
    )
    for name in ("rollout", "update"):
        assert record["ratios"][f"{name} / floor"] == pytest.approx(phases[name]["seconds"] / phases[name]["floor"])
    assert record["config"]["rollout"]["group_size"] == G
    assert record["machine"]["device"] in printed
    assert "rollout / floor" in printed


@pytest.mark.long
def test_scaling_measures_each_point_and_plots_them(comfyui, tmp_path):
    file, plot = tmp_path / "scaling.json", tmp_path / "scaling.png"
    options = ("--set", "rollout.group_size=2", "--set", "rollout.batch_size=8")
    bench(comfyui, "scaling", "--only", "S", "--most", "2", "--pairs", "1", "--json", file, "--plot", plot, *options)
    points = json.loads(file.read_text(encoding="utf-8"))["points"]
    assert [(point["axis"], point["value"]) for point in points] == [("S", []), ("S", [2])]
    assert all(0 < point["network"] < point["needed"] for point in points)
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_tails_are_ranked_by_the_same_branches(comfyui, tmp_path):
    file = tmp_path / "tails.json"
    small = {"rollout.steps": "8", "rollout.branch_steps": "[0]", "rollout.group_size": "4"}
    options = [part for name, value in small.items() for part in ("--set", f"{name}={value}")]
    bench(comfyui, "tails", "--prompts", "2", "--json", file, *options)
    ranks = json.loads(file.read_text(encoding="utf-8"))["ranks"]
    kinds = [("multistep", 4), ("euler", 4), ("multistep", 2), ("euler", 2)]
    assert [(each["solver"], each["tail_steps"]) for each in ranks] == kinds
    assert all(each["prompts"] == 2 for each in ranks)
    assert 0.5 < ranks[0]["spearman"] <= 1  # other branches would rank at random


@pytest.mark.long
def test_gradients_of_the_chains_are_compared_with_the_plain_steps(comfyui, tmp_path):
    file = tmp_path / "gradients.json"
    options = ("--set", "rollout.group_size=4", "--set", "pave.segments=[2]")
    bench(comfyui, "gradients", "--prompts", "2", "--json", file, *options)
    found = json.loads(file.read_text(encoding="utf-8"))["alignments"]
    steps = [(3, 0), *((4, k) for k in (0, 1)), *((8, k) for k in (0, 2, 4)), *((16, k) for k in (0, 2, 4, 6))]
    assert [(each["T"], each["k"], each["n"]) for each in found] == [(T, k, 2) for T, k in steps]
    for each in found:
        assert 0.5 < each["cosine"] <= 1  # other branches, or those of another step, would be at about 0
        assert each["halves"] < each["cosine"]


@pytest.mark.long
def test_learning_goes_on_where_it_was(comfyui, tmp_path):
    """The search is there already: only the runs that count are made, at the best learning rate and the common one."""
    file = tmp_path / "learning.jsonl"
    best = LEARNING_RATES[1]
    for each in searched(GRPO, scale=0.05):
        append(file, each)
    options = ("--json", file, "--only", GRPO, "--seeds", "1", "--scale", "0.05", "--workers", "1")
    printed = bench(comfyui, "learning", *options)
    assert "all runs are done" in printed
    own, other = [each for each in load([file]) if not each["search"]]
    assert (other["seed"], other["learning_rate"]) == (0, EQUAL_RATE)
    assert (own["experiment"], own["seed"], own["learning_rate"], own["steps"]) == (GRPO, 0, best, 2)
    assert own["images"] == 2 * 4 * 8  # steps x prompts x G
    assert [point[0] for point in own["curve"]] == [0, 1, 2]
    assert own["before"]["reward"] == pytest.approx(0, abs=1e-5)  # in standard deviations of the base model's images
    assert 0 < own["before"]["adherence"] <= 1
    assert own["after"]["reward"] != own["before"]["reward"]
    assert own["seconds"] > 0
    assert bench(comfyui, "learning", *options) == "all runs are done\n"


@pytest.mark.slow
def test_the_report_of_nothing_changes_nothing(comfyui, tmp_path):
    text = "<!-- bench:learning -->\nas it was\n<!-- bench:end -->\n"
    (tmp_path / "BENCHMARKS.md").write_text(text, encoding="utf-8")
    assert "nothing was measured" in bench(comfyui, "report", "--json", tmp_path / "none.jsonl", "--docs", tmp_path)
    assert (tmp_path / "BENCHMARKS.md").read_text(encoding="utf-8") == text


# experiments and settings


def test_every_experiment_is_a_config_of_the_same_budget_as_those_it_is_compared_with():
    base = base_config()
    configs = {name: each.config(base, seed=3, learning_rate=0.1) for name, each in EXPERIMENTS.items()}
    assert len({each.digest(base) for each in EXPERIMENTS.values()}) == len(EXPERIMENTS)
    for comparison in COMPARISONS:
        budgets = {
            configs[name].run.iterations * configs[name].run.prompts_per_step * configs[name].rollout.images
            for name in comparison.experiments
        }
        assert len(budgets) == 1, comparison.name
    assert {(config.run.seed, config.optim.learning_rate) for config in configs.values()} == {(3, 0.1)}
    assert {name for each in COMPARISONS for name in each.experiments} == EXPERIMENTS.keys()


def test_a_digest_changes_with_what_a_run_depends_on_and_not_with_its_seed():
    base, experiment = base_config(), EXPERIMENTS[GRPO]
    digest = experiment.digest(base)
    assert len(digest) == 8
    assert digest == experiment.digest(base_config())
    assert digest != experiment.digest(base, scale=0.5)
    assert digest != experiment.digest(replaced(base, {"optim.weight_decay": 0.01}))
    assert digest != EXPERIMENTS[PAVED].digest(base)


def test_experiments_are_chosen_by_comparison_or_name():
    assert len(chosen([])) == len(EXPERIMENTS)
    assert [each.name for each in chosen(["variance", GRPO])] == [
        *("T4 K01 {2,3}", "T4 K01 {2,3} matched", "T4 K01 {2,3} span"),
        GRPO,
    ]
    assert len(chosen(["segments"])) == 16
    with pytest.raises(ValueError, match="speed: neither a comparison"):
        chosen(["speed"])


def test_settings_are_read_as_typed_and_unknown_ones_refused():
    assert parsed("rollout.steps=4") == ("rollout.steps", 4)
    assert parsed("rollout.branch_steps=[0, 1]") == ("rollout.branch_steps", (0, 1))
    assert parsed("rollout.kernel=cps") == ("rollout.kernel", "cps")
    config = replaced(base_config(), {"rollout.steps": 4, "rollout.branch_steps": (0, 1), "pave.segments": ()})
    assert (config.rollout.steps, config.rollout.branch_steps, config.pave.segments) == (4, (0, 1), ())
    with pytest.raises(SettingError, match="rollout.step: not a setting: rollout has steps, branch_steps"):
        replaced(base_config(), {"rollout.step": 4})
    with pytest.raises(SettingError, match="sampler.steps: not a setting: sampler has no settings"):
        replaced(base_config(), {"sampler.steps": 4})
    with pytest.raises(ValueError, match="write it as section.field=value"):
        parsed("rollout.steps")


# what is watched


class Clock(Watch):
    """A watch whose time goes on only as it is told."""

    def __init__(self) -> None:
        self.time = 0.0
        super().__init__(torch.device("cpu"))

    def now(self) -> float:
        return self.time


def test_phases_add_up_to_the_whole_and_an_inner_one_stops_the_outer():
    clock = Clock()
    clock.time = 1.0  # other
    with clock.phase("rollout"):
        clock.time = 3.0
        with clock.phase("anchor", "tails", items=(1, 3)):
            clock.time = 7.0
        clock.time = 8.0
    assert clock.seconds == {"other": 1.0, "rollout": 3.0, "anchor": 1.0, "tails": 3.0}
    assert sum(clock.seconds.values()) == clock.time
    clock.clear()
    assert clock.seconds == {}


def test_a_phase_ends_where_an_error_leaves_it():
    clock = Clock()

    def fail() -> None:
        with clock.phase("decode"):
            clock.time = 2.0
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (clock.current(), clock.seconds) == ("other", {"other": 0.0, "decode": 2.0})


def test_the_phases_of_a_training_step_are_those_that_it_times_and_afterwards_it_is_as_before():
    from pave_core.training.step import TrainingStep

    timed, run = TrainingStep._timed, ToyTraining()
    step = TrainingStep(run.policy, run.decoder, conds=run.conds, config=run.config, state=run.state)
    clock = Clock()
    with phases_of(TrainingStep, clock), step._timed("decode"):
        clock.time = 5.0
    assert clock.seconds["decode"] == 5.0
    assert TrainingStep._timed is timed


def test_calls_of_a_network_are_counted_by_what_they_cost():
    network, where = torch.nn.Linear(2, 2), "rollout"
    calls = NetworkCalls(network, lambda: where)
    with calls.recorded():
        with torch.no_grad():
            network(torch.zeros(5, 2))
            network(torch.ones(5, 2))
            network(torch.zeros(3, 2))
        where = "update"
        network(network(torch.zeros(1, 2)))  # the second one's gradient goes on into the first
    network(torch.zeros(9, 2))  # outside
    assert calls.evaluations("rollout") == 13
    assert calls.evaluations("update") == 2
    kinds = {kind[1:]: count for part in ("rollout", "update") for kind, _, count in calls.of(part)}
    assert kinds == {
        ((5, 2), False, False): 2,
        ((3, 2), False, False): 1,
        ((1, 2), True, False): 1,
        ((1, 2), True, True): 1,
    }
    assert not any(args[0].requires_grad for _, (args, _), _ in calls.of("update"))
