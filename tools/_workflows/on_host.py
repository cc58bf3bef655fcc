"""A workflow against the nodes of a host, as its /object_info describes them.

Only nodes that the page would send are checked, which leaves out muted and bypassed ones. A PrimitiveNode writes its
value into the widget that it feeds, so that widget is checked like any other.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .in_file import BYPASSED, MUTED, Graph, Node, at, entries, fits

PAGE_ONLY = {"Note", "MarkdownNote", "Reroute", "PrimitiveNode"}
PLAIN = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}
# The types for which the page makes a widget, unless the input has forceInput.
WIDGETS = {*PLAIN, "COMBO", "COLOR", "MARKDOWN", "TEXTAREA", "IMAGEUPLOAD", "BUTTON", "LOAD_3D", "WEBCAM"}
# The options of an input that give it an upload button.
UPLOADS = ("image_upload", "animated_image_upload", "video_upload")
# How the names of model files end: the endings in the host's folder_paths, and .gguf.
MODEL_FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl", ".gguf")
CONTROLS = ["fixed", "increment", "decrement", "randomize", "increment-wrap"]

ObjectInfo = dict[str, dict[str, Any]]


class Note(str):
    """A finding that is not a problem."""


@dataclass(frozen=True)
class Input:
    """An input of a node as /object_info describes it.

    A V1 combo, which is a list of options, is a COMBO with "options" here, as a V3 combo is.
    """

    name: str
    type: str
    options: dict[str, Any]
    required: bool

    @property
    def kind(self) -> str:
        """The type of the input's widget; an input of several types names it."""
        return self.options.get("widgetType", self.type)

    @property
    def is_widget(self) -> bool:
        return self.kind in WIDGETS and not self.options.get("forceInput")

    @property
    def uploads(self) -> bool:
        return any(self.options.get(key) for key in UPLOADS)

    @property
    def page_widgets(self) -> list[Input]:
        """The widgets that the page puts after this one.

        A seed gets control after generate, a combo with that a filter too; options that the page fetches can be
        refreshed.
        """
        is_seed = self.kind == "INT" and self.name in ("seed", "noise_seed")
        controlled = self.options.get("control_after_generate", is_seed)
        remote = self.options.get("remote", {})
        wanted = {
            "control_after_generate": ("COMBO", {"options": CONTROLS}, controlled),
            "control_filter_list": ("STRING", {}, controlled and self.kind == "COMBO"),
            "auto-refresh": ("BOOLEAN", {}, remote),
            "refresh": ("BUTTON", {}, remote.get("refresh_button")),
        }
        made = ((name, type_, options) for name, (type_, options, there) in wanted.items() if there)
        return [Input(f"{self.name} {name}", type_, options, False) for name, type_, options in made]


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
    """The name of a type in /object_info, where a V1 combo is a list of its options."""
    return "COMBO" if isinstance(type_, list) else type_


def host_findings(graph: Graph, object_info: ObjectInfo) -> Iterator[str]:
    """What the nodes that the page would send have that the host does not take, and what they lack."""
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
                origin, slot = source
                yield from source_findings(node, entry, origin=origin, slot=slot, object_info=object_info)
            elif entry.required and not entry.is_widget:
                yield f"{at(node, name)}: required, and {_missing(name, links)}"
        # For a widget that a link feeds, the page sends the link, whatever the widget's value.
        counted = [entry for name, entry in inputs.items() if entry.is_widget and not sources[name]]
        yield from widget_findings(node, inputs, counted)


def _missing(name: str, links: dict[str, int | None]) -> str:
    """Why no node feeds an input."""
    if name not in links:
        return "not in the file"
    return "not connected" if links[name] is None else "its link leads to no node"


def slot_findings(node: Node, inputs: dict[str, Input], outputs: list[str]) -> Iterator[str]:
    """Slots in the file that the host's node does not have. The page finds inputs by name, outputs by place."""
    for socket in entries(node, "inputs"):
        if socket["name"] not in inputs:
            yield f"{at(node)}: the host's node has no input {socket['name']!r}"
    for slot, output in enumerate(entries(node, "outputs")):
        if slot >= len(outputs):
            yield f"{at(node)}: the host's node has no output {slot} ({output['name']!r})"
        elif output["name"] != outputs[slot]:
            yield f"{at(node)}: output {slot} is {output['name']!r} in the file and {outputs[slot]!r} on the host"


def source_findings(node: Node, entry: Input, *, origin: Node, slot: int, object_info: ObjectInfo) -> Iterator[str]:
    """What keeps output `slot` of `origin` from feeding an input."""
    if origin["mode"] == MUTED:
        if entry.required:
            yield f"{at(node, entry.name)}: required, and {at(origin)} is muted"
        return
    outputs = object_info.get(origin["type"], {}).get("output", [])
    # A node or an output that the host does not have is reported where it is.
    if slot < len(outputs) and not fits(received := type_name(outputs[slot]), entry.type):
        yield f"{at(node, entry.name)}: takes {entry.type}, and {at(origin)} gives {received}"


def widget_findings(node: Node, inputs: dict[str, Input], counted: list[Input]) -> Iterator[str]:
    """Values that cannot be assigned to widgets; values of the widgets in `counted` that are missing or wrong."""
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
            counts = f"widgets_values has {len(values)} values, and the host's node takes {len(on_host)}"
            yield f"{at(node)}: {counts}: {listing(on_host)}"
            return
        if places != on_host and sorted(places) == sorted(on_host):
            order = "the host's node has its widgets in another order, by which the page reads them"
            yield f"{at(node)}: {order}: {listing(on_host)}"
        values = dict(zip(places, values))
    for entry in counted:
        if entry.name in values:
            yield from value_findings(node, entry, values[entry.name])
        elif entry.required:
            yield f"{at(node, entry.name)}: required, and the file has no value for it"


def value_findings(node: Node, entry: Input, value: Any) -> Iterator[str]:
    """What is wrong with the value of a widget."""
    where = at(node, entry.name)
    if entry.kind == "COMBO":
        several = isinstance(value, list) and entry.options.get("multiselect")
        for choice in value if several else [value]:
            yield from choice_findings(node, entry, choice)
    elif entry.kind in PLAIN:
        low, high = entry.options.get("min"), entry.options.get("max")
        if not isinstance(value, PLAIN[entry.kind]) or isinstance(value, bool) != (entry.kind == "BOOLEAN"):
            yield f"{where}: {value!r} is not of type {entry.kind}"
        elif low is not None and value < low:
            yield f"{where}: {value} is below {low}"
        elif high is not None and value > high:
            yield f"{where}: {value} is above {high}"


def choice_findings(node: Node, entry: Input, choice: Any) -> Iterator[str]:
    """What is wrong with a choice in a combo; a note where that depends on the machine."""
    options = entry.options.get("options")
    if options is None:
        yield Note(f"{at(node, entry.name)}: the page fetches the options by itself, {choice!r} is not checked")
    elif choice not in options:
        if isinstance(choice, str) and (entry.uploads or choice.lower().endswith(MODEL_FILES)):
            yield Note(f"node {node['id']} needs the file {choice} for {node['type']}.{entry.name}")
        else:
            yield f"{at(node, entry.name)}: {choice!r} is not among the options: {listing(options)}"


def listing(values: list[Any]) -> str:
    """The values on one line, shortened where there are many."""
    return textwrap.shorten(", ".join(map(str, values)), 200, placeholder=" ...") or "none"
