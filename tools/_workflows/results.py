"""Workflows that use a trained LoRA: generate with it, and compare it with the model as it was."""

from __future__ import annotations

from typing import Any

from .graph import Workflow
from .parts import BELOW_THE_WIRES, SHORT, picture, rewards, tiny

SAVED: dict[str, Any] = {"lora_name": "quickstart.safetensors", "strength_model": 1.0}


def train_then_generate() -> Workflow:
    w = Workflow("train_then_generate", result="After")
    w.group("1. The model and the prompts")
    w.note(
        """
## From training straight into generation

One Run trains and generates. The MODEL of *Pave Train* has the LoRA in it; the LoRA itself also goes into the stock
*Save LoRA Weights* and *Load LoRA Model* nodes, where its strength can be changed without training again.

Change a prompt or a seed on the right and press Run: only the pictures are made again.
""",
        (400, 280),
    )
    model, prompts = tiny(w)
    w.group("2. What you like", "#8A8")
    mix = rewards(w)
    w.group("3. Train", "#b06634")
    train = w.node(
        "PaveTrain",
        size=(420, 0),
        model=model["model"],
        clip=model["clip"],
        vae=model["vae"],
        prompts=prompts,
        reward=mix,
        run_name="then_generate",
        evaluation_seeds=4,
        **SHORT,
    )
    w.group("4. The LoRA in stock nodes")
    w.node("SaveLoRA", lora=train["lora"], prefix="loras/then_generate", steps=10)
    half = w.node(
        "LoraModelLoader", "The LoRA at half strength", model=model["model"], lora=train["lora"], strength_model=0.5
    )
    curve, size = "Minus the reward, as the stock graph", (480, 330)
    w.node("LossGraphNode", curve, size, loss=train["loss_map"], filename_prefix="pave_loss")
    w.preview("Curve", train["curve"], (480, 520))
    w.row()
    w.group("5. The model as it was", "#8A8", after=model)
    picture(w, "Before", model["model"], model)
    w.group("6. Half strength", "#8A8", after=half)
    picture(w, "Half", half, model)
    w.group("7. The trained model", "#8A8", after=train)
    picture(w, "After", train["model"], model)
    return w


def generate_with_lora() -> Workflow:
    w = Workflow("generate_with_lora", result="After")
    w.group("1. The model and the LoRA")
    w.note(
        """
## Generate with a saved LoRA

The stock *Load LoRA* takes the files that *Pave Save LoRA*, *Pave Train* and *Pave Finish* write. Run the *quickstart*
template once, then press **R** here, so that the list shows its file. *Pave Save LoRA* shows the name: nothing is
overwritten, so the second run's is `quickstart_2`, and the highest number is the newest. Choose it in both nodes.

*Pave LoRA Recipe* reads from the file how it was trained.
""",
        (400, 260),
    )
    model = w.node("PaveTinyModel", size=(400, 0))
    w.column()
    loaded = w.node("LoraLoaderModelOnly", "Load LoRA", (400, 0), model=model["model"], **SAVED)
    recipe = w.node("PaveLoRARecipe", size=(400, 0), lora="quickstart.safetensors")
    w.column()
    w.text("How it was trained", recipe["text"], (400, 480))
    w.group("2. The model as it was", "#8A8")
    picture(w, "Before", model["model"], model)
    w.group("3. With the LoRA", "#8A8")
    picture(w, "After", loaded, model)
    return w


def compare_before_after() -> Workflow:
    w = Workflow("compare_before_after", result="Without and with the LoRA")
    top = w.group("Read me")
    w.note(
        """
## Two models side by side

The same prompts from the same seeds, without and with the LoRA, scored by the same reward. The table gives the gain
and its standard error, overall and prompt by prompt.

Run the *quickstart* template once, press **R** here, and choose its file in *Load LoRA*: *Pave Save LoRA* shows the
name, and of several the highest number is the newest. Any two MODELs can be compared: two LoRAs, two strengths, two
checkpoints.
""",
        (1400, 130),
    )
    w.group("1. Model and prompts", under=top)
    model, prompts = tiny(w, width=260)
    w.group("2. The LoRA", under=top, down=BELOW_THE_WIRES)
    loaded = w.node("LoraLoaderModelOnly", "Load LoRA", model=model["model"], **SAVED)
    w.group("3. What you like", "#8A8", under=top, down=BELOW_THE_WIRES + 100)
    mix = rewards(w)
    w.group("4. Compare", "#b06634", under=top)
    compared = w.node(
        "PaveCompare",
        size=(380, 0),
        model_a=model["model"],
        model_b=loaded,
        clip=model["clip"],
        vae=model["vae"],
        prompts=prompts,
        reward=mix,
        seeds=4,
        steps=8,
        width=64,
        height=64,
        batch_size=64,
    )
    w.group("5. Side by side", under=top)
    w.preview("Without and with the LoRA", compared["grid"], (620, 620))
    w.text("Rewards", compared["table"], (620, 540))
    return w
