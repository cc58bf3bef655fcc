"""The tiny pipelines that other tests build on: they run, hear what they are told, and are read back from a folder."""

import numpy as np
import pytest
import torch

from _tiny_pipelines import FAMILIES, SETTINGS, build, saved

SHORT, LONG = "a red circle", "a blue square on a dark background, seen from above"


def draw(pipeline, name, prompt, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = pipeline(
        prompt=prompt,
        num_inference_steps=2,
        height=64,
        width=64,
        output_type="np",
        generator=generator,
        **SETTINGS.get(name, {}),
    )
    return drawn.images if hasattr(drawn, "images") else drawn.frames


def difference(a, b):
    return np.abs(a - b).mean()


@pytest.mark.parametrize("name", FAMILIES)
def test_it_draws_what_depends_on_prompt_and_noise_and_is_read_from_a_folder(name, tmp_path):
    from diffusers import DiffusionPipeline

    pipeline = build(name)
    image = draw(pipeline, name, SHORT)
    assert image.shape[-3:] == (64, 64, 3)
    assert np.isfinite(image).all()
    assert image.std() > 0.05
    assert difference(image, draw(pipeline, name, LONG)) > 0.005
    assert difference(image, draw(pipeline, name, SHORT, seed=1)) > 0.005
    folder = saved(name, tmp_path / "pipeline")
    again = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    assert type(again) is type(pipeline)
    again.set_progress_bar_config(disable=True)
    assert np.array_equal(draw(again, name, SHORT), image)
