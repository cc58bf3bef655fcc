"""docs/BENCHMARKS.md: the tables between its markers, written from the results, and the plots beside it.

    <!-- bench:NAME -->  what is written  <!-- bench:end -->

What was not measured leaves its place as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from .campaign import base_config
from .evidence import measured_comparisons, picture_of, table_of_learning
from .machine import described
from .markdown import table
from .plots import plot_curves, plot_differences, plot_person, plot_scaling
from .results import Record, Results, load
from .targets import TARGETS

FILE = "BENCHMARKS.md"
ALL = "bench_learning_differences.png"
PERSON = "person.png"
PHASES = ("rollout", "anchor", "branches", "tails", "decode", "reward", "update", "optimizer", "other")
INSIDE = ("anchor", "branches", "tails")


def write(docs: Path, *, learning: Sequence[Path], folder: Path) -> None:
    """Write the tables and plots below `docs`. folder: where speed*.json, scaling*.json and tails*.json are.

    ValueError if the file has no place for a table.
    """
    written: dict[str, str] = {}
    if speeds := _records(folder, "speed"):
        written["speed"] = "\n\n".join(map(speed_table, speeds.values()))
    if scalings := _records(folder, "scaling"):
        for name, record in scalings.items():
            plot_scaling(record, docs / f"bench_{name}.png")
        written["scaling"] = "\n\n".join(
            f"{scaling_table(record)}\n\n![How the cost grows](bench_{name}.png)" for name, record in scalings.items()
        )
    if ranks := _records(folder, "tails"):
        written["tails"] = "\n\n".join(map(tails_table, ranks.values()))
    if alignments := _records(folder, "gradients"):
        written["gradients"] = "\n\n".join(map(gradients_table, alignments.values()))
    if people := _records(folder, "person"):
        written["person"] = "\n\n".join(map(person_table, people.values()))
        plot_person(people["person"], docs / PERSON)
    results = Results(load(learning), base_config())
    if measured := measured_comparisons(results):
        overview = f"![Every paired difference with its interval]({ALL})"
        written["learning"] = "\n\n".join([overview, *(table_of_learning(each, results) for each in measured)])
        plot_differences(measured, results, docs / ALL)
        for each in measured:
            plot_curves(each, results, docs / picture_of(each))
    file = docs / FILE
    text = file.read_text(encoding="utf-8")
    for name, each in written.items():
        text = placed(text, name, each)
    file.write_text(text, encoding="utf-8")
    print(f"{file}: {', '.join(written) or 'nothing was measured'}")


def placed(text: str, name: str, content: str) -> str:
    """`text` with `content` in the place of this name. ValueError if there is no such place."""
    place = re.compile(rf"(<!-- bench:{name} -->\n).*?(<!-- bench:end -->)", re.DOTALL)
    if not place.search(text):
        raise ValueError(f"{FILE} has no <!-- bench:{name} --> ... <!-- bench:end -->")
    return place.sub(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text, count=1)


def _records(folder: Path, command: str) -> dict[str, Record]:
    """{file name: record} of the results of a command: speed.json, speed_flux.json, ..."""
    files = sorted(folder.glob(f"{command}*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def _about(record: Record) -> str:
    config, command = record["config"], record["command"]
    rollout, model = config["rollout"], record["model"].split()[0]
    option = "" if model == "tiny" else f" --model {model}"
    return (
        f"**{record['model']}**, {record['pixels']} pixels, on {described(record['machine'])}: T {rollout['steps']}, "
        f"K {rollout['branch_steps']}, G {rollout['group_size']}, S {config['pave']['segments']}, "
        f"{config['run']['prompts_per_step']} prompts a step, batch_size {rollout['batch_size']} "
        f"(`python tools/bench.py {command}{option}`)."
    )


def speed_table(record: Record) -> str:
    """Seconds, calls and floors by phase, and the targets."""
    rows: list[Sequence[str]] = [("phase", "seconds", "calls", "evaluations", "floor", "ratio")]
    for name in PHASES:
        each = record["phases"].get(name)
        if each is None:
            continue
        floor = each.get("floor")
        rows.append(
            (
                f"of it {name}" if name in INSIDE else name,
                f"{each['seconds']:.4f}",
                str(each.get("calls", "")),
                str(each.get("evaluations", "")),
                "" if floor is None else f"{floor:.4f}",
                "" if floor is None else f"{record['ratios'][f'{name} / floor']:.2f}",
            )
        )
    rows.append(("step", f"{record['step_seconds']:.4f}", "", "", "", ""))
    targets: list[Sequence[str]] = [("", "median", "of all pairs", "at most", "")]
    for name, value in record["ratios"].items():
        limit = TARGETS.get(name)
        verdict = ("", "") if limit is None else (f"{limit:g}", "met" if value <= limit else "missed")
        of_pairs = [pair[name] for pair in record["each"]]
        targets.append((name, f"{value:.3f}", f"{min(of_pairs):.2f} to {max(of_pairs):.2f}", *verdict))
    return f"{_about(record)} Medians of {record['pairs']} pairs.\n\n{table(rows)}\n\n{table(targets)}"


def tails_table(record: Record) -> str:
    """How tails of each kind rank."""
    rows: list[Sequence[str]] = [("tail", "steps an image", "Spearman", "95 % interval", "prompts")]
    for each in record["ranks"]:
        bounds = f"[{each['low']:.3f}, {each['high']:.3f}]"
        rows.append((each["solver"], str(each["tail_steps"]), f"{each['spearman']:.3f}", bounds, str(each["prompts"])))
    return f"{_about(record)}\n\n{table(rows)}"


def gradients_table(record: Record) -> str:
    """How alike the gradients of plain steps and chains are."""
    rows: list[Sequence[str]] = [("T, k, n", "cosine", "95 % interval", "plain step, halves of the prompts", "prompts")]
    for each in record["alignments"]:
        bounds, halves = f"[{each['low']:.3f}, {each['high']:.3f}]", f"{each['halves']:.3f}"
        rows.append(
            (f"{each['T']}, {each['k']}, {each['n']}", f"{each['cosine']:.3f}", bounds, halves, str(each["prompts"]))
        )
    config = record["config"]
    about = (
        f"**{record['model']}**, G {config['rollout']['group_size']}, S {config['pave']['segments']} "
        f"(`python tools/bench.py {record['command']}`)."
    )
    return f"{about}\n\n{table(rows)}"


def person_table(record: Record) -> str:
    """What the clicks of each person have taught."""
    rows: list[Sequence[str]] = [
        (
            *("seed", "clicks", "held-out taste", "in errors", "ten steps alone", "accuracy of the taste"),
            *("of held-out images", "adherence: base, clicks, alone", "clicks where it asks less", "taste then"),
        )
    ]
    for run in record["runs"]:
        rows.append(
            (
                str(run["seed"]),
                str(run["clicks"]),
                f"{run['gain']:+.2f} +- {run['gain_se']:.2f}",
                f"{run['gain'] / run['gain_se']:.1f}",
                f"{run['alone_gain']:+.2f} +- {run['alone_se']:.2f}",
                f"{run['accuracy']:.2f} +- {run['accuracy_se']:.2f}",
                f"{run['true_accuracy']:.2f}",
                ", ".join(f"{share:.2f}" for share in run["adherence"]),
                str(run["asking_clicks"]),
                f"{run['asking_gain']:+.2f} +- {run['asking_se']:.2f}",
            )
        )
    rate = record["config"]["optim"]["learning_rate"]
    return f"{_about(record)} Learning rate {rate:g}.\n\n{table(rows)}\n\n![Held-out taste along the clicks]({PERSON})"


def scaling_table(record: Record) -> str:
    """Seconds of a step and its floor at each point."""
    rows: list[Sequence[str]] = [("", "step", "network, VAE, rewards", "network", "rollout / floor", "update / floor")]
    for point in record["points"]:
        value, ratios = point["value"], point["ratios"]
        rows.append(
            (
                f"{point['axis']} {value}",
                *(f"{point[name]:.3f} s" for name in ("step", "needed", "network")),
                *(f"{ratios[name]:.2f}" for name in ("rollout / floor", "update / floor")),
            )
        )
    return f"{_about(record)}\n\n{table(rows)}"
