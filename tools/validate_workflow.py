"""Checks workflows in the page's format (LiteGraph, version 0.4) against a real ComfyUI, without running them.

    python tools/validate_workflow.py FILES...                              start the private ComfyUI and ask it
    python tools/validate_workflow.py --url http://127.0.0.1:8188 FILES...  ask one that is already running

`problems` takes a workflow and /object_info, and needs no host. First the file itself: ids, links that agree at both ends, no
circle; a file that contradicts itself is not checked further. Then every node that the page would send, which leaves out muted
and bypassed ones: its type, its slots, the types of its links by the host's rule (comfy_execution/validation.py), its required
inputs, its widgets' values. Links are followed as the page does, through Reroute and bypassed nodes. A PrimitiveNode writes its
value into the widget it feeds, so that widget is checked like any other.

Whether a file that a combo names is there depends on the machine. Two kinds of values that are not among the options are
therefore notes, "needs the file X", and not problems: names that end as model files do (MODEL_FILES: the endings in the host's
folder_paths, and .gguf), and any value of a combo with an upload button. Options that the page fetches by itself make a note too.

Left out: inputs that a node grows on the page (V3's Autogrow and DynamicCombo), and the widgets that extensions of the page give
to stock audio, 3D and webcam nodes. They are reported as inputs or values too many, never passed over.

Exit code: 0 without problems, whatever the notes; 1 with problems, or when no ComfyUI answers; 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import textwrap
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from _host.environment import prepare
from _host.install import link_pack
from _host.package import ROOT
from _host.server import ComfyServer, ServerError, end_on_sigterm
from _host.setup import SetupError

PAGE_ONLY = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
MUTED, BYPASSED = 2, 4
PLAIN = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}
# The types for which the page makes a widget, unless the input has forceInput.
WIDGETS = {*PLAIN, "COMBO", "COLOR", "MARKDOWN", "TEXTAREA", "IMAGEUPLOAD", "BUTTON", "LOAD_3D", "WEBCAM"}
UPLOADS = ("image_upload", "animated_image_upload", "video_upload")
MODEL_FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl", ".gguf")
CONTROLS = ["fixed", "increment", "decrement", "randomize", "increment-wrap"]

Node = dict[str, Any]
ObjectInfo = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Report:
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


class Note(str):
    """A finding that is not a problem."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a running ComfyUI, instead of the private one")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILES")
    args = parser.parse_args()
    end_on_sigterm()
    try:
        object_info = ask(args.url)
    except (SetupError, ServerError) as error:
        print(error, file=sys.stderr)
        return 1
    reports = [check(file, object_info) for file in args.files]
    counts = {"file": len(reports), "problem": sum(len(r.problems) for r in reports), "note": sum(len(r.notes) for r in reports)}
    print(", ".join(f"{count} {word}{'s' * (count != 1)}" for word, count in counts.items()))
    return 1 if counts["problem"] else 0


def ask(url: str | None) -> ObjectInfo:
    """/object_info of the ComfyUI at `url`, or of the private one with the pack."""
    if url is None:
        environment = prepare()
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            link_pack(base / "custom_nodes", ROOT)
            with ComfyServer(environment.python, environment.comfyui, base / "server.log", base=base) as server:
                return server.client().object_info()
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/object_info", timeout=60) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        raise ServerError(f"no ComfyUI answers at {url}: {error}") from None


def check(file: Path, object_info: ObjectInfo) -> Report:
    """Print what there is to say about a file."""
    try:
        workflow = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        report = Report((f"can not be read: {error.strerror}",))
    except ValueError as error:
        report = Report((f"is not JSON: {error}",))
    else:
        report = problems(workflow, object_info)
        if not report.problems:
            print(f"ok  {file} ({len(workflow['nodes'])} nodes, {len(workflow['links'])} links)")
    for line in (*report.problems, *(f"note: {note}" for note in report.notes)):
        print(f"{file}: {line}")
    return report


def problems(workflow: Any, object_info: ObjectInfo) -> Report:
    """What is wrong with a workflow, as read from its JSON, on a host with this /object_info."""
    if message := misfit(workflow):
        return Report((message,))
    graph = Graph(workflow)
    # Each stage relies on the ones before it.
    for stage in duplicates(workflow), loose_ends(graph), circles(graph), subgraphs(workflow), host_findings(graph, object_info):
        if found := list(stage):
            return Report(tuple(f for f in found if not isinstance(f, Note)), tuple(f for f in found if isinstance(f, Note)))
    return Report(())


# The file


class Link(NamedTuple):
    id: int
    origin: int
    origin_slot: int
    target: int
    target_slot: int
    type: str


class Graph:
    """The nodes and links of a workflow by their ids."""

    def __init__(self, workflow: dict[str, Any]):
        self.nodes: dict[int, Node] = {node["id"]: node for node in workflow["nodes"]}
        self.links: dict[int, Link] = {link[0]: Link(*link) for link in workflow["links"]}

    def source(self, link: int | None, wanted: str) -> tuple[Node, int] | None:
        """The node, muted or not, and its output that feed an input of type `wanted` through `link`; None where nothing does."""
        if link is None:
            return None
        _, origin, slot, *_ = self.links[link]
        node = self.nodes[origin]
        if node["type"] == "PrimitiveNode":
            return None
        if node["type"] == "Reroute" or node["mode"] == BYPASSED:
            # The input in the place of the output if its type fits, else the first that does.
            inputs = entries(node, "inputs")
            passed = next((socket for socket in (*inputs[slot : slot + 1], *inputs) if fits(socket["type"], wanted)), {})
            return self.source(passed.get("link"), wanted)
        return node, slot


def entries(holder: dict[str, Any], key: str) -> list[Any]:
    """The inputs or outputs of a node, the links of an output; the page leaves out or nulls what is empty."""
    return holder.get(key) or []


def at(node: Node, name: str = "") -> str:
    return f"node {node['id']} {node['type']}" + (f".{name}" if name else "")


def misfit(workflow: Any) -> str | None:
    """Why this is not a workflow in the page's format."""
    if not isinstance(workflow, dict):
        return "is not a workflow"
    if any(isinstance(value, dict) and "class_type" in value for value in workflow.values()):
        return "is in API format: save it from the page with Save, not with Export (API)"
    nodes, links = workflow.get("nodes"), workflow.get("links")
    if not isinstance(nodes, list) or not nodes:
        return "has no nodes"
    if not all(isinstance(node, dict) and {"id", "type", "mode"} <= node.keys() for node in nodes):
        return "has a node without id, type or mode"
    if not all({"name", "type"} <= slot.keys() for node in nodes for side in ("inputs", "outputs") for slot in entries(node, side)):
        return "has an input or output without name or type"
    if not isinstance(links, list) or not all(isinstance(link, list) and len(link) == len(Link._fields) for link in links):
        return "has no list of links [id, origin, origin slot, target, target slot, type], as version 0.4 does"
    return None


def duplicates(workflow: dict[str, Any]) -> Iterator[str]:
    for kind, used in ("node", [node["id"] for node in workflow["nodes"]]), ("link", [link[0] for link in workflow["links"]]):
        yield from (f"{kind} id {id_} is used {count} times" for id_, count in Counter(used).items() if count > 1)


def loose_ends(graph: Graph) -> Iterator[str]:
    """Where the list of links and the slots of the nodes disagree."""
    listed = [(link.id, "output", link.origin, link.origin_slot) for link in graph.links.values()]
    listed += [(link.id, "input", link.target, link.target_slot) for link in graph.links.values()]
    held = []
    for node in graph.nodes.values():
        held += [(link, "output", node["id"], n) for n, slot in enumerate(entries(node, "outputs")) for link in entries(slot, "links")]
        held += [(slot["link"], "input", node["id"], n) for n, slot in enumerate(entries(node, "inputs")) if slot.get("link") is not None]
    for link, side, node, n in listed:
        if node not in graph.nodes:
            yield f"link {link} has its {side} at node {node}, which is not there"
        elif (link, side, node, n) not in held:
            yield f"link {link} is not at {side} {n} of node {node}, where the list of links has it"
    for link, side, node, n in held:
        if (link, side, node, n) not in listed:
            yield f"link {link} is at {side} {n} of node {node}, where the list of links does not have it"


def circles(graph: Graph) -> Iterator[str]:
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for link in graph.links.values():
        sorter.add(link.target, link.origin)
    try:
        sorter.prepare()
    except CycleError as error:
        yield f"the links go in a circle: nodes {' -> '.join(map(str, error.args[1]))}"


def subgraphs(workflow: dict[str, Any]) -> Iterator[str]:
    defined = {subgraph["id"] for subgraph in workflow.get("definitions", {}).get("subgraphs", [])}
    return (f"node {node['id']} is a subgraph: not supported, unpack it" for node in workflow["nodes"] if node["type"] in defined)


# The host


@dataclass(frozen=True)
class Input:
    """An input of a node as /object_info describes it; a V1 combo, a list of options, is a COMBO with "options" like a V3 one."""

    name: str
    type: str
    options: dict[str, Any]
    required: bool

    @property
    def kind(self) -> str:
        """The type of its widget, which an input of several types names."""
        return self.options.get("widgetType", self.type)

    @property
    def is_widget(self) -> bool:
        return self.kind in WIDGETS and not self.options.get("forceInput")

    @property
    def uploads(self) -> bool:
        return any(self.options.get(key) for key in UPLOADS)

    @property
    def page_widgets(self) -> list[Input]:
        """What the page puts after this widget: control after generate, with a filter for a combo; for fetched options, refreshing."""
        controlled = self.options.get("control_after_generate", self.kind == "INT" and self.name in ("seed", "noise_seed"))
        remote = self.options.get("remote", {})
        wanted = {
            "control_after_generate": ("COMBO", {"options": CONTROLS}, controlled),
            "control_filter_list": ("STRING", {}, controlled and self.kind == "COMBO"),
            "auto-refresh": ("BOOLEAN", {}, remote),
            "refresh": ("BUTTON", {}, remote.get("refresh_button")),
        }
        return [Input(f"{self.name} {name}", type_, options, False) for name, (type_, options, there) in wanted.items() if there]


def host_inputs(info: dict[str, Any]) -> dict[str, Input]:
    """The inputs of a node type by name, in the page's order and with the page's own widgets."""
    found: list[Input] = []
    for section in "required", "optional":
        for name, (type_, *rest) in info["input"].get(section, {}).items():
            choices = {"options": type_} if isinstance(type_, list) else {}
            entry = Input(name, type_name(type_), {**dict(*rest), **choices}, section == "required")
            found += [entry, *entry.page_widgets]
        if section == "required" and any(entry.uploads for entry in found):
            found.append(Input("upload", "IMAGEUPLOAD", {}, False))
    return {entry.name: entry for entry in found}


def type_name(type_: str | list[Any]) -> str:
    return "COMBO" if isinstance(type_, list) else type_


def fits(received: str, wanted: str) -> bool:
    """Whether an output of one type may feed an input of the other; both may be unions, "FLOAT,INT", or anything, "*"."""
    outputs, inputs = ({part.strip() for part in type_.split(",")} for type_ in (received, wanted))
    return "*" in outputs | inputs or not outputs.isdisjoint(inputs)


def host_findings(graph: Graph, object_info: ObjectInfo) -> Iterator[str]:
    for node in graph.nodes.values():
        if node["type"] in PAGE_ONLY or node["mode"] in (MUTED, BYPASSED):
            continue
        if node["type"] not in object_info:
            yield f"{at(node)}: the host has no such node"
            continue
        inputs = host_inputs(object_info[node["type"]])
        links = {socket["name"]: socket.get("link") for socket in entries(node, "inputs")}
        sources = {name: graph.source(links.get(name), entry.type) for name, entry in inputs.items()}
        yield from slot_findings(node, inputs, object_info[node["type"]]["output_name"])
        for name, entry in inputs.items():
            if source := sources[name]:
                yield from source_findings(node, entry, *source, object_info)
            elif entry.required and not entry.is_widget:
                reason = "not in the file" if name not in links else "not connected" if links[name] is None else "its link leads to no node"
                yield f"{at(node, name)}: required, and {reason}"
        # For a widget that a link feeds the page sends the link, whatever its value.
        yield from widget_findings(node, inputs, [entry for name, entry in inputs.items() if entry.is_widget and not sources[name]])


def slot_findings(node: Node, inputs: dict[str, Input], outputs: list[str]) -> Iterator[str]:
    """Slots of the file that the host's node does not have. The page finds inputs by name, outputs by place."""
    for socket in entries(node, "inputs"):
        if socket["name"] not in inputs:
            yield f"{at(node)}: the host's node has no input {socket['name']!r}"
    for slot, output in enumerate(entries(node, "outputs")):
        if slot >= len(outputs):
            yield f"{at(node)}: the host's node has no output {slot} ({output['name']!r})"
        elif output["name"] != outputs[slot]:
            yield f"{at(node)}: output {slot} is {output['name']!r} in the file and {outputs[slot]!r} on the host"


def source_findings(node: Node, entry: Input, origin: Node, slot: int, object_info: ObjectInfo) -> Iterator[str]:
    if origin["mode"] == MUTED:
        if entry.required:
            yield f"{at(node, entry.name)}: required, and {at(origin)} is muted"
        return
    outputs = object_info.get(origin["type"], {}).get("output", [])
    # A node or an output that the host does not have is reported where it is.
    if slot < len(outputs) and not fits(received := type_name(outputs[slot]), entry.type):
        yield f"{at(node, entry.name)}: takes {entry.type}, and {at(origin)} gives {received}"


def widget_findings(node: Node, inputs: dict[str, Input], counted: list[Input]) -> Iterator[str]:
    """Values that can not be told apart, or are missing or wrong where they count."""
    values = node.get("widgets_values") or []
    if not isinstance(values, dict):
        on_host = [name for name, entry in inputs.items() if entry.is_widget]
        in_file: list[str] = []
        for socket in entries(node, "inputs"):
            if "widget" in socket:
                own = inputs[socket["name"]].page_widgets if socket["name"] in inputs else []
                in_file += [socket["name"], *(entry.name for entry in own)]
        places = next((places for places in (in_file, on_host) if len(places) == len(values)), None)
        if places is None:
            yield f"{at(node)}: widgets_values has {len(values)} values, and the host's node takes {len(on_host)}: {listing(on_host)}"
            return
        if places != on_host and sorted(places) == sorted(on_host):
            yield f"{at(node)}: the host's node has its widgets in another order, by which the page reads them: {listing(on_host)}"
        values = dict(zip(places, values))
    for entry in counted:
        if entry.name in values:
            yield from value_findings(node, entry, values[entry.name])
        elif entry.required:
            yield f"{at(node, entry.name)}: required, and the file has no value for it"


def listing(values: list[Any]) -> str:
    return textwrap.shorten(", ".join(map(str, values)), 200, placeholder=" ...") or "none"


def value_findings(node: Node, entry: Input, value: Any) -> Iterator[str]:
    where = at(node, entry.name)
    if entry.kind == "COMBO":
        options = entry.options.get("options")
        for choice in value if isinstance(value, list) and entry.options.get("multiselect") else [value]:
            if options is None:
                yield Note(f"{where}: the page fetches the options by itself, {choice!r} is not checked")
            elif choice not in options and isinstance(choice, str) and (entry.uploads or choice.lower().endswith(MODEL_FILES)):
                yield Note(f"node {node['id']} needs the file {choice} for {node['type']}.{entry.name}")
            elif choice not in options:
                yield f"{where}: {choice!r} is not among the options: {listing(options)}"
    elif entry.kind in PLAIN:
        low, high = entry.options.get("min"), entry.options.get("max")
        if not isinstance(value, PLAIN[entry.kind]) or isinstance(value, bool) != (entry.kind == "BOOLEAN"):
            yield f"{where}: {value!r} is not of type {entry.kind}"
        elif low is not None and value < low:
            yield f"{where}: {value} is below {low}"
        elif high is not None and value > high:
            yield f"{where}: {value} is above {high}"


if __name__ == "__main__":
    sys.exit(main())
