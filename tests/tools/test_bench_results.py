"""What tools/bench.py makes of the records of runs: statistics, sentences, tables and plots."""

import numpy
import pytest
import scipy.stats
import torch

from _bench.campaign import base_config
from _bench.evidence import claim, run_of, table_of_learning
from _bench.experiments import EQUAL_RATE, EXPERIMENTS, LEARNING_RATES, SEARCH_SEEDS, Comparison
from _bench.jobs import Job
from _bench.markdown import table
from _bench.report import placed, speed_table, write
from _bench.results import Results, append, at_equal_images, at_equal_seconds, load, seconds_ratio
from _bench.statistics import interpolated, interval, mean_spearman, paired
from _bench_records import GRPO, PAVED, counted, record, searched

PAIR = Comparison("pair", "A pair", (GRPO, PAVED))

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


def test_the_learning_rate_is_that_of_the_search_and_other_runs_do_not_count():
    results = Results([*searched(GRPO), *counted(GRPO, [0.7, 0.8]), record(GRPO, 2, 0.99)], base_config())
    assert results.learning_rate(EXPERIMENTS[GRPO]) == LEARNING_RATES[1]
    assert results.runs(EXPERIMENTS[GRPO]).keys() == {0, 1}
    assert Results(searched(GRPO)[1:], base_config()).learning_rate(EXPERIMENTS[GRPO]) is None


def test_the_best_rates_of_the_first_seed_are_tried_on_the_others():
    first = [each for each in searched(GRPO) if each["seed"] == SEARCH_SEEDS[0]]
    for each, reward in zip(first, (0.5, 0.7, 0.4, 0.8), strict=True):
        each["after"] = {"reward": reward}
    results = Results(first, base_config())
    assert results.learning_rate(EXPERIMENTS[GRPO]) is None
    left = [job for job in results.search(EXPERIMENTS[GRPO]) if results.of(EXPERIMENTS[GRPO], job) is None]
    rates = (LEARNING_RATES[1], LEARNING_RATES[3])
    assert left == [Job(GRPO, seed, rate, search=True) for seed in SEARCH_SEEDS[1:] for rate in rates]


def test_the_rate_is_the_one_whose_worst_run_is_best():
    higher = LEARNING_RATES[2]
    search = searched(GRPO)
    for each in search:
        if each["learning_rate"] == higher:
            each["after"] = {"reward": 0.1 if each["seed"] == SEARCH_SEEDS[1] else 0.9}
    assert Results(search, base_config()).learning_rate(EXPERIMENTS[GRPO]) == LEARNING_RATES[1]


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


def test_methods_that_differ_little_are_compared_at_one_rate_too():
    comparison = Comparison("pair", "A pair", (GRPO, PAVED), equal_rate=True)
    records = [*searched(GRPO), *searched(PAVED), *counted(GRPO, [0.7, 0.5, 0.9]), *counted(PAVED, [0.5, 0.9, 0.7])]
    for name, add in ((GRPO, 0.0), (PAVED, 0.02)):
        records += [record(name, seed, 0.8 + 0.1 * seed + add, rate=EQUAL_RATE) for seed in range(3)]
    results = Results(records, base_config())
    assert results.rates(EXPERIMENTS[GRPO]) == [LEARNING_RATES[1], EQUAL_RATE]
    section = table_of_learning(comparison, results)
    claimed = "reward higher with both at 0.0012, +0.020 [+0.020, +0.020]"
    assert claimed in section
    assert "same images" not in next(line for line in section.splitlines() if claimed in line)
    alone = table_of_learning(PAIR, results)
    assert "both at" not in alone


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


def test_the_docs_have_a_place_for_every_table(root):
    text = (root / "docs" / "BENCHMARKS.md").read_text(encoding="utf-8")
    for name in ("speed", "scaling", "tails", "gradients", "learning"):
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
    each = [{name: value + shift for name, value in ratios.items()} for shift in (-0.02, 0, 0.04)]
    record = {**found, "pairs": 3, "phases": phases, "ratios": ratios, "each": each, "step_seconds": 2.3}
    lines = speed_table(record).splitlines()
    assert "`python tools/bench.py speed --model flux`" in lines[0]
    assert "| rollout / floor | 1.200 | 1.18 to 1.24 | 1.1 | missed |" in lines
    assert "| update / floor | 1.100 | 1.08 to 1.14 | 1.15 | met |" in lines
    assert "| other share | 0.050 | 0.03 to 0.09 | 0.05 | met |" in lines


def test_a_bar_in_a_cell_does_not_end_it():
    assert table([("a", "b"), ("|S|", "1")]) == "| a | b |\n| --- | ---: |\n| /S/ | 1 |"


def test_a_search_has_the_same_jobs_for_every_experiment():
    jobs = [Results([], base_config()).search(EXPERIMENTS[name]) for name in (GRPO, PAVED)]
    assert [(job.seed, job.learning_rate) for job in jobs[0]] == [(job.seed, job.learning_rate) for job in jobs[1]]
    assert jobs[0][0] == Job(GRPO, SEARCH_SEEDS[0], LEARNING_RATES[0], search=True)
