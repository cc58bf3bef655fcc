"""What differs between the versions of ComfyUI that the tests run on, each with its reason. Tests ask here.

The architectures that a host has are found in its own code (_tiny_architectures.known_to).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

# -- networks


@dataclass(frozen=True)
class Required:
    """Settings that networks of `image_models` must be given if the host's dataclass `parameters` has them."""

    image_models: tuple[str, ...]
    parameters: str
    settings: dict[str, Any]


REQUIRED_SETTINGS = (
    # Since 0.4 the axes of FLUX's text positions are a setting without a default; Chroma inherits FLUX's forward.
    Required(("flux",), "comfy.ldm.flux.model.FluxParams", {"txt_ids_dims": []}),
    Required(("flux2",), "comfy.ldm.flux.model.FluxParams", {"txt_ids_dims": [3]}),
    Required(
        ("chroma", "chroma_radiance"), "comfy.ldm.chroma.model.ChromaParams", {"txt_ids_dims": [], "vec_in_dim": None}
    ),
    Required(
        ("chroma_radiance",),
        "comfy.ldm.chroma_radiance.model.ChromaRadianceParams",
        {"use_x0": False, "use_sequential_txt_ids": False},
    ),
    # Newer hosts tell two kinds of meanflow apart.
    Required(("hunyuan_video",), "comfy.ldm.hunyuan_video.model.HunyuanVideoParams", {"meanflow_sum": False}),
)


def required_settings(image_model: str | None) -> dict[str, Any]:
    """The settings that this host's networks of `image_model` ask for besides those that all hosts have."""
    found: dict[str, Any] = {}
    for each in REQUIRED_SETTINGS:
        if image_model in each.image_models:
            module, name = each.parameters.rsplit(".", 1)
            fields = getattr(import_module(module), name).__dataclass_fields__
            found |= {key: value for key, value in each.settings.items() if key in fields}
    return found


# -- the page: 0.3.75 has front end 1.33, 0.33 has 1.49

# The node search was a PrimeVue input, whose results hang below it; now it is a dialog with a list beside filters.
SEARCH_BOX = ".p-autocomplete-input, .comfy-vue-node-search-container input, input[aria-controls=results-list]"
FOUND_FIRST = """() => {
    const active = document.activeElement?.getAttribute("aria-activedescendant")
    const found = document.querySelector("#results-list [aria-selected=true]")
    return document.getElementById(active)?.ariaLabel ?? found?.querySelector("span.truncate")?.textContent
}"""
"""The name of the node that Enter would take."""

# A node that is taken from the search now hangs on the pointer until a click puts it down.
HANGS_ON_POINTER = "Boolean(app.canvas._ghostPointerHandler)"

# A workflow with a node that the host does not know opened a dialog; now an icon says so as long as it is open, and an
# overlay names all that is wrong with the workflow, models that are not there included.
SAYS_A_NODE_IS_MISSING = "[aria-labelledby=global-missing-nodes], [data-testid=subgraph-breadcrumb-missing-nodes-icon]"
DISMISS_ERRORS = "[data-testid=error-overlay-dismiss]"

# The info button opened and closed a panel of its own; now it turns to a tab of the panel that goes with the selection.
PROPERTIES_PANEL = "[data-testid=properties-panel]"

# In Nodes 2.0 the label of a number was on its input; now it is on the box around the input and its buttons.
NUMBER_FIELD = '[aria-label="{name}"] input, input[aria-label="{name}"]'

# Settings for experts were shown in Nodes 2.0 like all others, and a script of ours folds them; now the host does.
UNFOLD = re.compile("more settings|Show advanced inputs")
FOLD = re.compile("fewer settings|Hide advanced inputs")


def with_inputs_of_both(prompt: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`prompt`, in which stock nodes have no titles, and only the inputs that they have in `other`, too.

    They differ between hosts: LoraModelLoader has got a bypass, PreviewAny sends its preview no more, DualCLIPLoader is
    called Load CLIP (Dual).
    """

    def kept(id: str, node: dict[str, Any]) -> dict[str, Any]:
        if node["class_type"].startswith("Pave") or id not in other:
            return node
        shared = {key: value for key, value in node["inputs"].items() if key in other[id]["inputs"]}
        return {"class_type": node["class_type"], "inputs": shared}

    return {id: kept(id, node) for id, node in prompt.items()}
