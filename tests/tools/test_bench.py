"""tools/bench.py as a user runs it, in miniature on the CPU; and what its tables say of records."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import scipy.stats
import torch

from _bench.campaign import base_config
from _bench.evidence import claim, run_of
from _bench.experiments import COMPARISONS, EXPERIMENTS, LEARNING_RATES, SEARCH_SEEDS, Comparison, chosen
from _bench.jobs import Job
from _bench.markdown import table
from _bench.report import placed, speed_table, write
from _bench.results import Results, append, at_equal_images, at_equal_seconds, load, seconds_ratio
from _bench.settings import SettingError, parsed, replaced
from _bench.statistics import interpolated, interval, mean_spearman, paired
from _bench.watch import Watch, phases_of
from _cuda.calls import NetworkCalls

BENCH = Path(__file__).resolve().parents[2] / "tools" / "bench.py"
GRPO, PAVED = "T4 K0 GRPO", "T4 K0 {2,3}"
PAIR = Comparison("pair", "A pair", (GRPO, PAVED))


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


@pytest.mark.slow
def test_scaling_measures_each_point_and_plots_them(comfyui, tmp_path):
    file, plot = tmp_path / "scaling.json", tmp_path / "scaling.png"
    options = ("--set", "rollout.group_size=2", "--set", "rollout.batch_size=8")
    bench(comfyui, "scaling", "--only", "S", "--most", "2", "--pairs", "1", "--json", file, "--plot", plot, *options)
    points = json.loads(file.read_text(encoding="utf-8"))["points"]
    assert [(point["axis"], point["value"]) for point in points] == [("S", []), ("S", [2])]
    assert all(0 < point["network"] < point["needed"] for point in points)
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
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


@pytest.mark.slow
def test_learning_goes_on_where_it_was(comfyui, tmp_path):
    """The search is there already: only the run that counts is made, at the learning rate that was best."""
    file = tmp_path / "learning.jsonl"
    best = LEARNING_RATES[1]
    for job in Results([], base_config()).search(EXPERIMENTS[GRPO]):
        reward = 0.9 if job.learning_rate == best else 0.8
        append(file, record(job.experiment, job.seed, reward, rate=job.learning_rate, search=True, scale=0.05))
    options = ("--json", file, "--only", GRPO, "--seeds", "1", "--scale", "0.05", "--workers", "1")
    printed = bench(comfyui, "learning", *options)
    assert "all runs are done" in printed
    (own,) = [each for each in load([file]) if not each["search"]]
    assert (own["experiment"], own["seed"], own["learning_rate"], own["steps"]) == (GRPO, 0, best, 2)
    assert own["images"] == 2 * 2 * 8  # steps x prompts x G
    assert [point[0] for point in own["curve"]] == [0, 1, 2]
    assert own["before"]["reward"] == pytest.approx(0, abs=1e-5)  # in standard deviations of the base model's images
    assert 0 < own["before"]["adherence"] <= 1
    assert own["after"]["reward"] != own["before"]["reward"]
    assert own["seconds"] > 0
    assert bench(comfyui, "learning", *options) == "all runs are done\n"


# statistics


def test_an_interval_is_students():
    values = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    found = interval(values)
    low, high = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    # By hand, with t_{0.975, 7} = 2.3646 of the printed tables: 1..8 has mean 4.5 and variance 6.
    by_hand = interval([1, 2, 3, 4, 5, 6, 7, 8])
    assert (by_hand.mean, by_hand.high - by_hand.mean) == pytest.approx((4.5, 2.3646 * (6 / 8) ** 0.5), rel=1e-4)


def test_the_interval_holds_the_truth_in_95_of_100_cases():
    draws = torch.randn(2000, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 3
    held = [found.low <= 3 <= found.high for found in map(interval, draws.tolist())]
    assert sum(held) / len(held) == pytest.approx(0.95, abs=0.015)


def test_differences_are_paired_by_seed():
    generator = torch.Generator().manual_seed(2)
    seeds = torch.randn(8, generator=generator, dtype=torch.float64)  # what both runs of a seed share
    own = (seeds + 0.05 + 0.01 * torch.randn(8, generator=generator, dtype=torch.float64)).tolist()
    other = seeds.tolist()
    found = paired({**dict(enumerate(own)), 99: 7.0}, dict(enumerate(other)))
    low, high = scipy.stats.ttest_rel(own, other).confidence_interval(0.95)
    assert found is not None
    assert (found.n, found.low, found.high) == (8, pytest.approx(low), pytest.approx(high))
    assert found.says == "higher"
    assert paired({1: 0.0}, {2: 0.0}) is None


def test_a_single_value_has_no_bounds_and_says_nothing():
    found = interval([0.3])
    assert (found.mean, found.n, found.says) == (0.3, 1, "")


def test_ranks_are_compared_within_groups():
    # 1 - 6 sum d^2 / (n (n^2 - 1)) with d = (0, 1, -1, 0): 1 - 12 / 60
    assert mean_spearman([[1, 2, 3, 4], [5, 6, 7, 8]], [[0, 9, 8, 10], [1, 2, 3, 4]]) == pytest.approx((0.8 + 1) / 2)


@pytest.mark.parametrize("x", [-1.0, 0.0, 0.4, 1.0, 2.5, 3.0, 9.0])
def test_interpolation_is_numpys(x):
    xs, ys = [0.0, 1.0, 3.0], [2.0, 4.0, -1.0]
    assert interpolated(x, xs, ys) == pytest.approx(numpy.interp(x, xs, ys))


# records


def record(
    name: str,
    seed: int,
    reward: float,
    *,
    rate: float = LEARNING_RATES[0],
    search: bool = False,
    scale: float = 1.0,
    seconds: float = 10.0,
    device: str = "a",
) -> dict[str, Any]:
    """A run whose reward rises as a line from 0.5, and whose adherence is always twice as far from 0."""
    scores = {"reward": reward, "adherence": 2 * reward}
    start = {"reward": 0.5, "adherence": 1.0}
    return {
        **{"experiment": name, "seed": seed, "learning_rate": rate, "search": search, "scale": scale},
        **{"digest": EXPERIMENTS[name].digest(base_config(), scale), "machine": {"device": device}},
        **{"before": start, "after": scores, "seconds": seconds, "images": 640},
        "curve": [[0, 0, 0.0, start], [4, 640, seconds, scores]],
    }


def searched(name: str) -> list[dict[str, Any]]:
    """A search that finds the second learning rate."""
    return [
        record(name, seed, 0.6 + (rate == LEARNING_RATES[1]) * 0.1, rate=rate, search=True)
        for rate in LEARNING_RATES
        for seed in SEARCH_SEEDS
    ]


def counted(name: str, rewards: list[float], **other: Any) -> list[dict[str, Any]]:
    """Runs at that rate, one a seed."""
    return [record(name, seed, reward, rate=LEARNING_RATES[1], **other) for seed, reward in enumerate(rewards)]


def test_the_learning_rate_is_that_of_the_search_and_other_runs_do_not_count():
    results = Results([*searched(GRPO), *counted(GRPO, [0.7, 0.8]), record(GRPO, 2, 0.99)], base_config())
    assert results.learning_rate(EXPERIMENTS[GRPO]) == LEARNING_RATES[1]
    assert results.runs(EXPERIMENTS[GRPO]).keys() == {0, 1}
    assert Results(searched(GRPO)[1:], base_config()).learning_rate(EXPERIMENTS[GRPO]) is None


def test_a_learning_rate_at_which_a_run_failed_is_not_chosen():
    search = searched(GRPO)
    for each in search:
        if each["learning_rate"] == LEARNING_RATES[1]:
            each["failed"] = "not finite"
            break
    assert Results(search, base_config()).learning_rate(EXPERIMENTS[GRPO]) != LEARNING_RATES[1]


def test_records_of_other_settings_do_not_count():
    other = [each | {"digest": "another"} for each in searched(GRPO)]
    assert Results(other, base_config()).learning_rate(EXPERIMENTS[GRPO]) is None
    longer = Results(searched(GRPO), base_config(), scale=2.0)
    assert longer.learning_rate(EXPERIMENTS[GRPO]) is None


def test_a_line_that_was_cut_off_is_left_out_and_gone_when_the_next_run_is_added(tmp_path):
    file = tmp_path / "learning.jsonl"
    append(file, {"a": 1})
    with file.open("a") as out:
        out.write('{"b": ')
    assert load([file, tmp_path / "not there"]) == [{"a": 1}]
    append(file, {"c": 3})
    assert load([file]) == [{"a": 1}, {"c": 3}]


def test_equal_images_compare_ends_and_equal_seconds_the_place_where_the_faster_one_ended():
    slow = {seed: record(PAVED, seed, 0.9, seconds=20.0) for seed in range(3)}
    fast = {seed: record(GRPO, seed, 0.8, seconds=10.0) for seed in range(3)}
    images, seconds = at_equal_images(slow, fast, "reward"), at_equal_seconds(slow, fast, "reward")
    assert images is not None
    assert seconds is not None
    assert images.mean == pytest.approx(0.1)  # 0.9 - 0.8
    assert seconds.mean == pytest.approx(-0.1)  # after 10 s the slow one is half way from 0.5 to 0.9
    cost = seconds_ratio(slow, fast)
    assert cost is not None
    assert (cost.mean, cost.n) == (2.0, 3)
    other = {seed: record(GRPO, seed, 0.8, device="b") for seed in range(3)}
    assert at_equal_seconds(slow, other, "reward") is None  # seconds of two machines


def test_a_claim_names_what_is_shown_with_its_interval_and_nothing_else():
    better = [0.81, 0.83, 0.85, 0.85]  # 0.11, 0.12, 0.13, 0.12 above: +- 3.1824 * 0.00816 / 2
    records = [*searched(GRPO), *searched(PAVED), *counted(GRPO, [0.70, 0.71, 0.72, 0.73])]
    runs = run_of(PAIR, Results([*records, *counted(PAVED, better, seconds=12.0)], base_config()))
    assert claim(PAVED, GRPO, runs).startswith(
        "T4 K0 {2,3} against T4 K0 GRPO, 4 seeds, 1.20 [1.20, 1.20] times the seconds: "
        "reward higher after the same images, +0.120 [+0.107, +0.133]; "
        "adherence higher after the same images, +24.0 [+21.4, +26.6]; "
    )
    mixed = run_of(PAIR, Results([*records, *counted(PAVED, [0.75, 0.66, 0.77, 0.68])], base_config()))
    assert claim(PAVED, GRPO, mixed).endswith("4 seeds, 1.00 [1.00, 1.00] times the seconds: no difference is shown.")


def test_the_report_writes_tables_and_plots_in_their_places(tmp_path):
    file = tmp_path / "learning.jsonl"
    for name, add in ((GRPO, 0.0), (PAVED, 0.01)):
        for each in [*searched(name), *counted(name, [0.7 + add, 0.71 + add, 0.73 + add * 1.1])]:
            append(file, each)
    place = "<!-- bench:learning -->\nold\n<!-- bench:end -->\n"
    text = f"# Title\n<!-- bench:speed -->\nkept\n<!-- bench:end -->\n{place}after\n"
    (tmp_path / "BENCHMARKS.md").write_text(text, encoding="utf-8")
    write(tmp_path, learning=[file], folder=tmp_path)
    found = (tmp_path / "BENCHMARKS.md").read_text(encoding="utf-8")
    assert found.startswith("# Title\n<!-- bench:speed -->\nkept\n<!-- bench:end -->\n")
    assert found.endswith("<!-- bench:end -->\nafter\n")
    assert "old" not in found
    assert "### Segments at T4 K0" in found
    assert "Segments at T3 K0" not in found  # was not run
    assert "`python tools/bench.py learning --only 'segments T4 K0'`" in found
    pictures = {each.name for each in tmp_path.glob("*.png")}
    assert pictures == {"bench_learning_differences.png", "bench_learning_segments_t4_k0.png"}
    assert all(f"({name})" in found for name in pictures)


@pytest.mark.slow
def test_the_report_of_nothing_changes_nothing(comfyui, tmp_path):
    text = "<!-- bench:learning -->\nas it was\n<!-- bench:end -->\n"
    (tmp_path / "BENCHMARKS.md").write_text(text, encoding="utf-8")
    assert "nothing was measured" in bench(comfyui, "report", "--json", tmp_path / "none.jsonl", "--docs", tmp_path)
    assert (tmp_path / "BENCHMARKS.md").read_text(encoding="utf-8") == text


def test_the_docs_have_a_place_for_every_table(root):
    text = (root / "docs" / "BENCHMARKS.md").read_text(encoding="utf-8")
    for name in ("speed", "scaling", "tails", "learning"):
        assert placed(text, name, "a table") != text


def test_a_file_without_the_place_is_refused():
    with pytest.raises(ValueError, match="BENCHMARKS.md has no <!-- bench:speed -->"):
        placed("nothing here", "speed", "table")


def test_the_speed_table_says_what_was_missed():
    config = {"rollout": {"steps": 4, "branch_steps": [0], "group_size": 2, "batch_size": 4}}
    config |= {"pave": {"segments": [2]}, "run": {"prompts_per_step": 1}}
    machine = {"device": "a card", "threads": 1, "comfyui": "1", "torch": "2"}
    phases = {"rollout": {"seconds": 1.2, "floor": 1.0}, "update": {"seconds": 1.1, "floor": 1.0}}
    ratios = {"rollout / floor": 1.2, "update / floor": 1.1, "other share": 0.05}
    found = {"command": "speed", "model": "flux in miniature", "pixels": 64, "config": config, "machine": machine}
    lines = speed_table({**found, "pairs": 7, "phases": phases, "ratios": ratios, "step_seconds": 2.3}).splitlines()
    assert "`python tools/bench.py speed --model flux`" in lines[0]
    assert "| rollout / floor | 1.200 | 1.1 | missed |" in lines
    assert "| update / floor | 1.100 | 1.15 | met |" in lines
    assert "| other share | 0.050 | 0.05 | met |" in lines


def test_a_bar_in_a_cell_does_not_end_it():
    assert table([("a", "b"), ("|S|", "1")]) == "| a | b |\n| --- | ---: |\n| /S/ | 1 |"


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
    assert digest != experiment.digest(replaced(base, {"lora.rank": 4}))
    assert digest != EXPERIMENTS[PAVED].digest(base)


def test_experiments_are_chosen_by_comparison_or_name():
    assert len(chosen([])) == len(EXPERIMENTS)
    assert [each.name for each in chosen(["variance", GRPO])] == [
        *("T4 K0 {2,3}", "T4 K0 {2,3} matched", "T4 K0 {2,3} span"),
        GRPO,
    ]
    assert len(chosen(["segments"])) == 20
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

    timed = TrainingStep._timed
    clock, step = Clock(), object.__new__(TrainingStep)
    step._seconds = {"decode": 0.0}  # pyright: ignore[reportAttributeAccessIssue]
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


def test_a_search_has_the_same_jobs_for_every_experiment():
    jobs = [Results([], base_config()).search(EXPERIMENTS[name]) for name in (GRPO, PAVED)]
    assert [(job.seed, job.learning_rate) for job in jobs[0]] == [(job.seed, job.learning_rate) for job in jobs[1]]
    assert jobs[0][0] == Job(GRPO, SEARCH_SEEDS[0], LEARNING_RATES[0], search=True)
