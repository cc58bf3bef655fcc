"""assets/tiny/README.md, written from the metrics that the files carry in their metadata."""

from __future__ import annotations

from pave_core.rewards.shapes import BACKGROUNDS, COLOURS, SHAPES, caption

from .common import DIFFUSION_MODEL, OPEN_CLIP_MODEL, PREFERENCE, SHAPE_CLASSIFIER, TINY, VAE, read_metrics

INTRODUCTION = """# The bundled tiny model

A real text-to-image flow model that is small enough for a CPU: 64x64 pictures of one shape on a plain background.
Built by

    python tools/make_tiny.py --seed {seed}

in {minutes:.0f} minutes on 2 CPU cores, with all randomness from the seed. Captions read
"{example}": colours {colours}; shapes {shapes}; backgrounds {backgrounds}.

| file | what it is | size |
|---|---|---|
{files}

Weights are stored in half precision. The text encoder has windows of 16 tokens; the pack's `Pave Tiny Model` node
builds it. The diffusion model is able and miscalibrated: in the last two fifths of its training a third of the captions
named the opposite of the picture's colour or shape, so that it often draws another thing than was asked for, or one
between the two, which a reward can put right. The captions of all other models are true. Adherence is the share of
samples in which the classifier finds the colour and the shape of the prompt, well formed that in which it finds any
(Euler, {steps} steps, no guidance, every caption with 16 seeds).

The preference model was trained on pairs of pictures of one prompt: a clean shape is preferred to a malformed one, the
prompt's colour and shape to others, a large shape to a small one. Its metrics are the shares of new pairs that it
puts in the right order.
"""
FILES = {
    "diffusion_model.safetensors": "MMDiT of the host's SD3 class, for the stock UNETLoader",
    "text_encoder.safetensors": "CLIP-style text encoder, trained with it",
    "vae.safetensors": "TAESD with 16 channels and a lean decoder, for the stock VAELoader",
    "open_clip_model.safetensors": "open_clip model of open_clip_config.json, for the CLIP score",
    "shape_classifier.safetensors": "classifier of colour and shape, for evaluation only",
    "preference.safetensors": "MLP on the open_clip model's features: which picture is preferred for a prompt",
}
TABLES = {
    "VAE": VAE,
    "Shape classifier": SHAPE_CLASSIFIER,
    "open_clip model": OPEN_CLIP_MODEL,
    "Diffusion model and text encoder": DIFFUSION_MODEL,
    "Preference model": PREFERENCE,
}


def write(seed: int) -> None:
    """Write README.md; every stage must have been run."""
    from .flow import SAMPLING_STEPS

    metrics = {title: read_metrics(path) for title, path in TABLES.items()}
    rows = [f"| {name} | {what} | {(TINY / name).stat().st_size / 1e6:.1f} MB |" for name, what in FILES.items()]
    text = INTRODUCTION.format(
        seed=seed,
        minutes=sum(table["seconds"] for table in metrics.values()) / 60,
        example=caption("red", "circle", "dark"),
        colours=", ".join(COLOURS),
        shapes=", ".join(SHAPES),
        backgrounds=", ".join(BACKGROUNDS),
        files="\n".join(rows),
        steps=SAMPLING_STEPS,
    )
    for title, table in metrics.items():
        lines = [f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in table.items()]
        text += f"\n## {title}\n\n| metric | value |\n|---|---|\n" + "\n".join(lines) + "\n"
    (TINY / "README.md").write_text(text, encoding="utf-8")
