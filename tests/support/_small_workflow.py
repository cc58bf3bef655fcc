"""A small workflow in the page's format that has everything in it and nothing wrong, and ways to change it."""

from collections.abc import Callable
from typing import Any

import pytest

Workflow = dict[str, Any]

# Cut from a real /object_info. KSampler, LoadImage and the loaders are V1 nodes, Trainer is a V3 node.
HOST: dict[str, dict[str, Any]] = {
    "UNETLoader": {
        "input": {
            "required": {
                "unet_name": [["here.safetensors"]],
                "weight_dtype": [["default", "fp8_e4m3fn"], {"advanced": True}],
            }
        },
        "output": ["MODEL"],
        "output_name": ["MODEL"],
    },
    "CLIPLoader": {
        "input": {
            "required": {"clip_name": [[]], "type": [["sd3", "flux2"]]},
            "optional": {"device": [["default", "cpu"], {"advanced": True}]},
        },
        "output": ["CLIP"],
        "output_name": ["CLIP"],
    },
    "CLIPTextEncode": {
        "input": {
            "required": {
                "text": ["STRING", {"multiline": True, "dynamicPrompts": True}],
                "clip": ["CLIP", {"tooltip": "..."}],
            }
        },
        "output": ["CONDITIONING"],
        "output_name": ["CONDITIONING"],
    },
    "KSampler": {
        "input": {
            "required": {
                "model": ["MODEL", {"tooltip": "..."}],
                "seed": ["INT", {"default": 0, "min": 0, "max": 18446744073709551615, "control_after_generate": True}],
                "steps": ["INT", {"default": 20, "min": 1, "max": 10000}],
                "sampler_name": [["euler", "heun"], {"tooltip": "..."}],
                "positive": ["CONDITIONING", {}],
                "negative": ["CONDITIONING", {}],
                "denoise": ["FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}],
            }
        },
        "output": ["LATENT"],
        "output_name": ["LATENT"],
    },
    "LoadImage": {
        "input": {"required": {"image": [["there.png"], {"image_upload": True}]}},
        "output": ["IMAGE", "MASK"],
        "output_name": ["IMAGE", "MASK"],
    },
    "ImageInvert": {"input": {"required": {"image": ["IMAGE"]}}, "output": ["IMAGE"], "output_name": ["IMAGE"]},
    "PreviewAny": {"input": {"required": {"source": ["*", {}]}}, "output": [], "output_name": []},
    "Trainer": {
        "input": {
            "required": {
                "model": ["MODEL", {"tooltip": "..."}],
                "preset": ["COMBO", {"default": "custom", "multiselect": False, "options": ["custom", "paper"]}],
                "group_size": ["INT", {"default": 12, "min": 2, "max": 64, "step": 1}],
                "seed": ["INT", {"default": 0, "min": 0, "max": 99, "control_after_generate": False}],
                "resume": ["BOOLEAN", {"default": True}],
            },
            "optional": {
                "scale": ["INT, FLOAT", {}],
                "label": ["STRING", {"forceInput": True}],
                "run_name": ["STRING", {"default": "", "multiline": False}],
            },
            "hidden": {"unique_id": ["UNIQUE_ID"]},
        },
        "output": ["LORA_MODEL", "FLOAT"],
        "output_name": ["lora", "reward"],
    },
}


def sound_workflow() -> Workflow:
    """A workflow that has everything in it and nothing wrong."""
    workflow: Workflow = {
        "nodes": [
            node(1, "UNETLoader", "unet_name=COMBO weight_dtype=COMBO", "MODEL:MODEL", ["here.safetensors", "default"]),
            node(
                2,
                "CLIPLoader",
                "clip_name=COMBO type=COMBO device=COMBO",
                "CLIP:CLIP",
                ["t5/absent.safetensors", "flux2", "cpu"],
            ),
            node(3, "CLIPTextEncode", "clip:CLIP text=STRING", "CONDITIONING:CONDITIONING", ["a red circle"]),
            node(
                5,
                "KSampler",
                "model:MODEL positive:CONDITIONING negative:CONDITIONING "
                "seed=INT steps=INT sampler_name=COMBO denoise=FLOAT",
                "LATENT:LATENT",
                [7, "fixed", 4, "euler", 1],
            ),
            node(
                6,
                "Trainer",
                "model:MODEL scale:INT,FLOAT label:STRING "
                "preset=COMBO group_size=INT seed=INT resume=BOOLEAN run_name=STRING",
                "lora:LORA_MODEL reward:FLOAT",
                ["paper", 12, 3, True, ""],
            ),
            node(7, "MarkdownNote", "", "", ["Read me"]),
            node(8, "LoadImage", "image=COMBO upload=IMAGEUPLOAD", "IMAGE:IMAGE MASK:MASK", ["there.png", "image"]),
            node(9, "PreviewAny", "source:*", "", []),
            node(10, "PreviewAny", "source:*", "", []),
        ],
        "links": [],
        "version": 0.4,
    }
    for origin, slot, target, name in (
        (1, 0, 5, "model"),
        (2, 0, 3, "clip"),
        (3, 0, 5, "positive"),
        (3, 0, 5, "negative"),
        (1, 0, 6, "model"),
    ):
        connect(workflow, origin, slot, target, name)
    connect(workflow, 6, 0, 9, "source")
    connect(workflow, 8, 0, 10, "source")
    return workflow


def node(id_: int, type_: str, inputs: str, outputs: str, values: Any, mode: int = 0) -> dict[str, Any]:
    """A node of a workflow: slots are "name:TYPE", a widget's "name=TYPE"."""
    sockets = [(name.replace("=", ":").split(":"), "=" in name) for name in inputs.split()]
    return {
        "id": id_,
        "type": type_,
        "mode": mode,
        "inputs": [
            {"name": name, "type": kind, "link": None, **({"widget": {"name": name}} if widget else {})}
            for (name, kind), widget in sockets
        ],
        "outputs": [
            {"name": name, "type": kind, "links": None}
            for name, kind in (output.split(":") for output in outputs.split())
        ],
        "widgets_values": values,
    }


def connect(workflow: Workflow, origin: int, slot: int, target: int, name: str) -> None:
    """Link an output to the input `name`."""
    link = 1 + max((link[0] for link in workflow["links"]), default=0)
    output = at(workflow, origin)["outputs"][slot]
    output["links"] = [*(output["links"] or []), link]
    places = [socket["name"] for socket in at(workflow, target)["inputs"]]
    socket_of(workflow, target, name)["link"] = link
    workflow["links"].append([link, origin, slot, target, places.index(name), output["type"]])


def cut(workflow: Workflow, target: int, name: str) -> None:
    """Take away the link of an input."""
    link = socket_of(workflow, target, name)["link"]
    socket_of(workflow, target, name)["link"] = None
    (origin,) = (entry for entry in workflow["links"] if entry[0] == link)
    workflow["links"].remove(origin)
    at(workflow, origin[1])["outputs"][origin[2]]["links"].remove(link)


def insert(workflow: Workflow, added: dict[str, Any], name: str, target: int, into: str) -> None:
    """Put a node between an input and what feeds it."""
    link = socket_of(workflow, target, into)["link"]
    _, origin, slot, *_ = next(entry for entry in workflow["links"] if entry[0] == link)
    cut(workflow, target, into)
    workflow["nodes"].append(added)
    connect(workflow, origin, slot, added["id"], name)
    connect(workflow, added["id"], 0, target, into)


def at(workflow: Workflow, id_: int) -> dict[str, Any]:
    return next(node for node in workflow["nodes"] if node["id"] == id_)


def socket_of(workflow: Workflow, id_: int, name: str) -> dict[str, Any]:
    return next(socket for socket in at(workflow, id_)["inputs"] if socket["name"] == name)


class Changes(list[Any]):
    """Changes of the sound workflow, each with all the problems that it makes, for a parametrized test."""

    def gives(self, *messages: str):
        """The change makes these problems and no other."""

        def note(change: Callable[[Workflow], object]):
            self.append(pytest.param(change, messages, id=change.__name__))
            return change

        return note

    def harmless(self, change: Callable[[Workflow], object]):
        """The change makes no problem."""
        return self.gives()(change)
