"""What the bundled workflows have in common: the values of their widgets, and the groups of nodes that recur."""

from __future__ import annotations

from typing import Any

from .graph import Out, Ref, Workflow

COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan")
SHAPES = ("circle", "square", "triangle", "star")
CAPTIONS = "\n".join(f"a {c} {s} on a {b} background" for c in COLOURS for s in SHAPES for b in ("dark", "light"))
WARM: dict[str, Any] = {"red": 1.0, "green": 0.75, "blue": 0.4, "softness": 0.5}
PROMPT = "a green star on a light background"
SIZE: dict[str, Any] = {"width": 64, "height": 64}
ROLLOUT: dict[str, Any] = {"steps": 8, "branch_steps": "0, 2, 4", "group_size": 8, "batch_size": 64, **SIZE}
LORA: dict[str, Any] = {"rank": 8, "alpha": 16.0, "targets": "attention + MLP"}
SHORT: dict[str, Any] = {**ROLLOUT, **LORA, "iterations": 10, "prompts_per_step": 4, "learning_rate": 5e-4}
RUN: dict[str, Any] = {"iterations": 10, "prompts_per_step": 4, "evaluation_seeds": 4}
MIX: dict[str, Any] = {"weight_1": 1.0, "weight_2": 1.0, "normalise": "raw"}


BELOW_THE_WIRES = 230
"""So much lower stands a group that the wires of the model with its prompts pass on their way to the right."""


def tiny(w: Workflow, width: int = 400) -> tuple[Ref, Ref]:
    """The bundled model and its prompts, in a column."""
    model = w.node("PaveTinyModel", size=(width, 0))
    return model, w.node("PavePrompts", size=(width, 400), text=CAPTIONS, held_out=0.2, seed=0)


def rewards(w: Workflow) -> Ref:
    """CLIP score and colour, mixed."""
    clip = w.node("PaveCLIPScore", "CLIP score: true to the prompt")
    colour = w.node("PaveColour", "Colour: what you like", **WARM)
    w.column()
    return w.node("PaveRewardMix", reward_1=clip, reward_2=colour, **MIX)


def picture(w: Workflow, title: str, model: Ref | Out, source: Ref) -> None:
    """Generate PROMPT with the stock KSampler, in four columns; `source` gives text encoder and VAE."""
    positive = w.node("CLIPTextEncode", f"{title}: prompt", clip=source["clip"], text=PROMPT)
    negative = w.node("CLIPTextEncode", f"{title}: negative (unused at cfg 1)", clip=source["clip"], text="")
    latent = w.node("EmptySD3LatentImage", **SIZE, batch_size=4)
    w.column()
    sampler = w.node(
        "KSampler",
        f"{title}: KSampler",
        model=model,
        positive=positive,
        negative=negative,
        latent_image=latent,
        seed=1,
        steps=16,
        cfg=1.0,
        sampler_name="euler",
        scheduler="simple",
    )
    w.column()
    decoded = w.node("VAEDecode", samples=sampler, vae=source["vae"])
    w.column()
    w.preview(title, decoded, (420, 440))


def outcome(w: Workflow, train: Ref, name: str, grid: bool = True) -> None:
    """Curve, grid, summary and the saved LoRA.

    Nodes 2.0 shows pictures as wide as their node, and they run over one that is too low.
    """
    w.preview("Curve", train["curve"], (560, 760))
    w.node("PaveSaveLoRA", lora=train["lora"], name=name)
    w.column()
    if grid:
        w.preview("Before and after, same seeds", train["grid"], (560, 760))
    w.text("Summary", train["summary"], (560, 380))


def settings(w: Workflow, model: Ref, **optimizer: Any) -> tuple[Ref, dict[str, Ref]]:
    """The policy; and rollout, objective and optimizer by the names of the sockets that they go into."""
    lora = w.node("PaveLoRASettings", **LORA)
    rollout = w.node("PaveRolloutSettings", **ROLLOUT)
    w.column()
    policy = w.node("PavePolicy", model=model["model"], clip=model["clip"], vae=model["vae"], lora=lora)
    objective = w.node("PaveObjective")
    w.column()
    optimizer_node = w.node("PaveOptimizer", **{"learning_rate": 5e-4, **optimizer})
    return policy, {"rollout": rollout, "objective": objective, "optimizer": optimizer_node}
