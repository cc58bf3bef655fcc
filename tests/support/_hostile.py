"""Hostile prompts: every node of the pack with every input, each set to values that make no sense."""

import json
import math
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from _training_graphs import Graph, choosing, contrasting, looped, node, with_settings

PATIENCE = 20.0
"""Seconds after which a prompt hangs."""
MEGABYTE = "x" * 1_000_000
ANYWHERE: list[Any] = [
    *(None, True, False, "", " ", "x", {}, {"a": 1}, {"a": {"b": [1]}}, [], [1], ["x", "y", "z"], ["nowhere", 0]),
    *(["tiny", 99], ["tiny", -1], ["tiny", 0], ["wrong", 0], {"__value__": [1, 2]}, {"__value__": {}}),
    *(0, -1, 1.5, math.nan, "\ud800", "a\0b", MEGABYTE, "<img src=x onerror=alert(1)>"),
]
"""Values for any input."""
WIDGETS: list[Any] = [
    *(1, 2, 3.7, 1e308, -1e308, 10**18, -(10**18), 10**400, math.inf, -math.inf, "nan", "inf", "-inf", "1e999", "3"),
    *("9" * 5000, "1" * 400, "true", "a\nb\r\nc", "../../x", "..\\..\\x", "/etc/passwd", "C:\\x.txt", "CON", "nul.txt"),
    *("\u00e9\u20ac\U0001f600" * 30, "\u202eabc", "%s%n{0}{x}", "0, 2, 4", "2, 2", "-1", {"__value__": "\ud800"}),
    *({"__value__": 3}, ["x"] * 1000),
]
"""More values for widgets."""
CHEAP = {
    **{"width": 64, "height": 64, "steps": 4, "branch_steps": "0", "group_size": 2, "segments": "2", "rank": 2},
    **{"iterations": 1, "evaluation_seeds": 1, "seeds": 1, "run_name": "hostile", "check_reward": False},
    **{"check_gradient": False, "seed": 0, "name": "hostile", "file": "none", "checkpoint": "bundled tiny CLIP"},
}
"""Values with which the nodes take well under a second."""
RUNNING = {
    "PaveLoopBegin",
    "PaveTrain",
    "PaveTrainAdvanced",
    "PaveBegin",
    "PaveCheckReward",
    "PavePreflight",
    "PaveCompare",
}
"""Nodes that take seconds: with values that they should take, they are not run again."""
SOCKETS = {
    "MODEL": ["tiny", 0],
    "CLIP": ["tiny", 1],
    "VAE": ["tiny", 2],
    "IMAGE": ["image", 0],
    "SIGMAS": ["sigmas", 0],
    "LORA_MODEL": ["train", 1],
    "PAVE_POLICY": ["policy", 0],
    "PAVE_PROMPTS": ["prompts", 0],
    "PAVE_REWARD": ["colour", 0],
    "PAVE_LORA_SETTINGS": ["lora", 0],
    "PAVE_ROLLOUT_SETTINGS": ["rollout", 0],
    "PAVE_OBJECTIVE": ["objective", 0],
    "PAVE_OPTIMIZER": ["optimizer", 0],
    "PAVE_MEMORY_SETTINGS": ["memory", 0],
    "PAVE_GUARD": ["guard", 0],
    "PAVE_STATE": ["begin", 0],
    "PAVE_ROLLOUT": ["draw", 0],
    "PAVE_SCORES": ["score", 0],
    "PAVE_ADVANTAGES": ["advantage", 0],
    "PAVE_CANDIDATES": ["candidates", 0],
    "PAVE_LOOP": ["loop", 0],
    "FLOAT,INT,BOOLEAN": ["statistic", 0],
}
"""{type of a socket: a wire of that type}."""


@dataclass(frozen=True)
class Case:
    """One input of one node with one value."""

    kind: str
    name: str
    value: Any
    graph: Graph
    sensible: bool  # the schema allows it

    def __str__(self) -> str:
        return f"{self.kind}.{self.name} = {json.dumps(self.value)[:80]}"


@dataclass(frozen=True)
class Outcome:
    """What became of a case: its kind, and the messages that came back."""

    kind: str
    messages: tuple[str, ...] = ()


def inputs_of(info: dict[str, Any]) -> dict[str, tuple[Any, dict[str, Any], bool]]:
    """{input: (type or options, its extras, whether it is optional)} of a node in /object_info."""
    found = {}
    for group in ("required", "optional"):
        for name, said in info["input"].get(group, {}).items():
            found[name] = (said[0], said[1] if len(said) > 1 else {}, group == "optional")
    return found


def options_of(kind: Any, extras: dict[str, Any]) -> list[Any] | None:
    return kind if isinstance(kind, list) else extras.get("options") if kind == "COMBO" else None


def is_widget(kind: Any) -> bool:
    return isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def allows(kind: Any, extras: dict[str, Any], optional: bool, value: Any) -> bool:
    """Whether the schema of an input allows a value that is no wire: the oracle."""
    if isinstance(value, dict) and "__value__" in value:
        value = value["__value__"]
    options = options_of(kind, extras)
    if value is None:
        return optional
    if options is not None:
        return isinstance(value, str) and value in options
    if kind == "*":
        return True
    if kind == "FLOAT,INT,BOOLEAN" and isinstance(value, list):  # a number for each of two images
        return len(value) in (1, 2) and all(isinstance(each, int | float) and math.isfinite(each) for each in value)
    if kind == "BOOLEAN":
        return isinstance(value, bool)
    if kind == "STRING":
        if isinstance(value, int | float) and not isinstance(value, bool):
            return isinstance(value, int) or math.isfinite(value)
        at_most = 1_000_000 if extras.get("multiline") else 10_000
        return isinstance(value, str) and len(value) <= at_most and not re.search("[\0\ud800-\udfff]", value)
    if kind not in ("INT", "FLOAT", "FLOAT,INT,BOOLEAN") or isinstance(value, bool):
        return kind == "FLOAT,INT,BOOLEAN" and isinstance(value, bool)
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return False
    in_range = extras.get("min", -math.inf) <= number <= extras.get("max", math.inf)
    return math.isfinite(number) and in_range and (kind != "INT" or number == int(number))


LOOPS = {"PaveLoopBegin", "PaveLoopEnd", "PaveCandidates", "PaveChoosePrompts", "PaveContrast"}
"""Nodes whose graph is a whole loop."""


def base_of(kind: str, info: dict[str, Any]) -> tuple[Graph, str]:
    """A small graph that has a node of the class `kind`, and that node's id."""
    chosen = {
        "PaveCandidates": {"candidates": 2},
        "PaveChoosePrompts": {"candidates": 2},
        "PaveContrast": {"contrast": 2},
    }
    loop = with_settings(
        looped("hostile", iterations=1),
        rollout={"branch_steps": "0", "group_size": 3} | chosen.get(kind, {}),
        begin={"check_reward": False, "check_gradient": False, "evaluation_seeds": 1, "prompts_per_step": 1},
    )
    if kind in ("PaveCandidates", "PaveChoosePrompts"):
        loop = choosing(loop)
    elif kind == "PaveContrast":
        loop = contrasting(loop)
    elif kind not in LOOPS:
        begin = {"state": ["begin", 0]}
        loop = with_settings(loop, draw=begin, loss=begin, finish={"state": ["step", 0]})
    of_loop = next((name for name, each in loop.items() if each["class_type"] == kind), None)
    if of_loop is not None:
        return loop, of_loop
    parts = loop | {
        "image": node("EmptyImage", width=64, height=64, batch_size=2, color=0),
        "sigmas": node("BasicScheduler", model=["tiny", 0], scheduler="simple", steps=4, denoise=1.0),
        "memory": node("PaveMemory", preset="custom", checkpointing="off", recompute_chains=False, decode_batch=4) | {},
        "guard": node("PaveGuard", every=10, action="stop", max_drop=0.2, max_drift=0.0, max_change=0.0),
        "statistic": node("PaveImageStatistic", images=["image", 0], statistic="mean"),
    }
    parts["memory"]["inputs"] |= {"decode_batch": 4, "offload": 0.0}
    parts["train"] = node(
        "PaveTrainAdvanced",
        **loop["begin"]["inputs"] | {"iterations": 1, "reward": ["colour", 0], "run_name": "hostile"},
    )
    given: dict[str, Any] = {}
    for name, (type_, extras, optional) in inputs_of(info).items():
        options = options_of(type_, extras)
        if not is_widget(type_):
            if type_ != "*" and not (optional and type_ in ("PAVE_SCORES", "PAVE_GUARD", "SIGMAS")):
                given[name] = SOCKETS[type_]
        elif name in CHEAP and (options is None or CHEAP[name] in options):
            given[name] = CHEAP[name]
        elif options is not None:
            given[name] = extras.get("default", options[0] if options else "none")
        else:
            given[name] = extras.get("default", "a red circle on a dark background")
    return parts | {"x": node(kind, **given)}, "x"


def pruned(graph: Graph, target: str, output: bool) -> Graph:
    """What `target` needs, and a preview of its first output unless it is an output node."""
    found: set[str] = set()
    waiting = [target]
    while waiting:
        each = waiting.pop()
        if each in found or each not in graph:
            continue
        found.add(each)
        for value in graph[each]["inputs"].values():
            if isinstance(value, list) and value and isinstance(value[0], str):
                waiting.append(value[0])
    kept = {name: graph[name] for name in found}
    return kept if output else kept | {"shown": node("PreviewAny", source=[target, 0])}


def case_of(kind: str, info: dict[str, Any], name: str, value: Any) -> Case:
    """The input `name` of a node with a value, in the smallest graph that has it."""
    graph, target = base_of(kind, info)
    type_, extras, optional = inputs_of(info)[name]
    changed = with_settings(graph, **{target: {name: value}})
    changed["wrong"] = node("EmptyImage", width=64, height=64, batch_size=1, color=0)
    if kind in LOOPS:
        kept = pruned(changed, "finish", output=True)
    else:
        kept = pruned(changed, target, output=bool(info.get("output_node")))
    return Case(kind, name, value, kept, isinstance(value, list) or allows(type_, extras, optional, value))


def cases(object_info: dict[str, Any], seed: int = 0) -> list[Case]:
    """Every node of ours, every input, every value: in an order that the seed chooses."""
    found = []
    for kind, info in sorted(object_info.items()):
        if not kind.startswith("Pave"):
            continue
        for name, (type_, extras, _) in inputs_of(info).items():
            for value in values_for(type_, extras):
                case = case_of(kind, info, name, value)
                wire = isinstance(value, list) and len(value) == 2
                if wire or not case.sensible or kind not in RUNNING:
                    found.append(case)
    random.Random(seed).shuffle(found)
    return found


def values_for(type_: Any, extras: dict[str, Any]) -> Iterator[Any]:
    yield from ANYWHERE
    if is_widget(type_):
        yield from WIDGETS
        for end, to in (("min", -1), ("max", 1)):
            if end in extras:
                yield from (extras[end], extras[end] + to, extras[end] + to * 0.5, str(extras[end] + to))


def post(server, path: str, body: Any, timeout: float = PATIENCE) -> tuple[int, bytes]:
    data = json.dumps(body).encode("utf-8", "surrogatepass")
    request = urllib.request.Request(f"{server.url}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def get(server, path: str) -> Any:
    with urllib.request.urlopen(f"{server.url}{path}", timeout=PATIENCE) as answer:
        return json.loads(answer.read())


def tried(server, case: Case) -> Outcome:
    """Post a case, wait for its end, and say what became of it. Its prompt is cancelled where it takes too long."""
    status, reply = post(server, "/prompt", {"prompt": case.graph, "client_id": "hostile"})
    if status >= 500:
        return Outcome("host's own 500", (reply[:200].decode(errors="replace"),))
    answer = json.loads(reply)
    problems = [error for each in (answer.get("node_errors") or {}).values() for error in each["errors"]]
    raw = [error for error in problems if error["type"].startswith("exception")]
    ours = [error["details"] for error in problems if error["type"] == "custom_validation_failed"]
    if any("custom_nodes" in line for error in raw for line in error["extra_info"].get("traceback", ())):
        return Outcome("raw exception of ours at validation", tuple(error["details"] for error in raw))
    if status == 200 and problems:  # the host runs what else is in the graph
        post(server, "/queue", {"delete": [answer["prompt_id"]]})
        post(server, "/interrupt", {"prompt_id": answer["prompt_id"]})
    if problems or status != 200:
        if raw:
            return Outcome("host's own exception at validation", tuple(error["details"][:200] for error in raw))
        named = any(error["details"].partition(" - ")[2].startswith(case.name) for error in problems)
        if ours and not named and not any(error["details"].startswith(case.name) for error in problems):
            return Outcome("rejected for another reason", tuple(ours))
        return Outcome("rejected, clear" if ours else "rejected by the host", tuple(ours))
    return _ended(server, case, answer["prompt_id"])


def _ended(server, case: Case, prompt_id: str) -> Outcome:
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        history = get(server, f"/history/{prompt_id}").get(prompt_id)
        if history:
            break
        time.sleep(0.05)
    else:
        post(server, "/interrupt", {})
        time.sleep(5)
        return Outcome("hangs" if get(server, "/queue")["queue_running"] else "hangs, Cancel works")
    for event, data in history["status"]["messages"]:
        if event == "execution_error":
            kind, message = data["exception_type"].rpartition(".")[2], data["exception_message"].strip()
            known = kind in ("ConfigError", "TrainingError")
            return Outcome(
                "clear error" if known else "raw traceback", (f"{kind}: {message}" if not known else message,)
            )
    return Outcome("accepted" if case.sensible else "accepted, senseless")


def alive(server, number: int) -> bool:
    """Whether the worker still runs prompts."""
    graph = {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=number),
        "2": node("PreviewAny", source=["1", 0]),
    }
    status, reply = post(server, "/prompt", {"prompt": graph})
    found = json.loads(reply)
    case = Case("", "", None, {}, sensible=True)
    return status == 200 and _ended(server, case, found["prompt_id"]).kind == "accepted"
