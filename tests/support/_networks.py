"""Networks of a true architecture with given weights, and scores by the published pipelines."""

import json

import open_clip
import torch
import transformers
from accelerate import init_empty_weights
from torch.nn.functional import normalize

from pave_core.rewards.networks.compute import Compute
from pave_core.scoring.score import describe

TOLERANCE = 1e-4
TINY = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def transformers_class(*names):
    """The first of these that transformers has: the processors that use Pillow have other names since version 5."""
    return next(getattr(transformers, name) for name in names if hasattr(transformers, name))


def clip_processor(edge=224):
    """transformers' image processor for CLIP."""
    return transformers_class("CLIPImageProcessorPil", "CLIPImageProcessor")(
        size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge}
    )


def siglip_processor():
    """transformers' image processor for SigLIP so400m at 384."""
    return transformers_class("SiglipImageProcessorPil", "SiglipImageProcessor")(size={"height": 384, "width": 384})


def spread(scores):
    """The smallest difference between two of the scores."""
    return (scores[:, None] - scores[None]).abs()[~torch.eye(len(scores), dtype=torch.bool)].min().item()


def assert_same(ours, theirs):
    """Assert that two lists of scores agree within the tolerance, and that the scores differ by much more than that."""
    assert spread(theirs) > 20 * TOLERANCE, theirs
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


def assert_made_again(reward, *files):
    """Assert that tools/train.py makes this reward from its description, given the files that it is made of."""
    from _train.rewards import Makers

    def compute(precision, batch_size):
        return Compute(precision=precision, batch_size=batch_size)

    said = json.loads(json.dumps(describe(reward)))
    made = Makers(compute, lambda: list(files), lambda: None).reward(said)
    assert type(made).__name__ == type(reward).__name__
    assert json.loads(json.dumps(describe(made))) == said


def score_each(reward, pictures, prompts):
    """The scores of pictures of different sizes, one by one."""
    return torch.cat([reward(image[None], [prompt]) for image, prompt in zip(pictures, prompts, strict=True)])


def layout(make):
    """The state dict of what `make` makes, without memory for it."""
    with init_empty_weights(include_buffers=False):
        return make().state_dict()


def filled(make, state):
    """What `make` makes, with the weights `state` in fp32."""
    with init_empty_weights(include_buffers=False):
        module = make()
    module.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return module.eval()


def open_clip_cosines(model, transform, *, pictures, prompts):
    """Cosines by open_clip's own methods and tokenizer."""
    with torch.no_grad():
        images = normalize(torch.cat([model.encode_image(transform(picture)[None]) for picture in pictures]), dim=-1)
        return (images * normalize(model.encode_text(open_clip.SimpleTokenizer()(list(prompts))), dim=-1)).sum(-1)


def huggingface_clip(text, vision, projection, activation):
    """A CLIPModel of these configs."""
    return transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=text | {"hidden_act": activation, "eos_token_id": 49407, "projection_dim": projection},
            vision_config=vision | {"hidden_act": activation, "projection_dim": projection},
            projection_dim=projection,
        )
    )


def huggingface_cosines(model, processor, *, tokenizer, pictures, prompts):
    """Cosines by the two towers and projections, whose outputs no version of transformers has changed."""
    tokens = tokenizer(list(prompts), padding=True, truncation=True, max_length=77, return_tensors="pt")
    with torch.no_grad():
        pixels = [processor([picture], return_tensors="pt")["pixel_values"] for picture in pictures]
        images = torch.cat([model.visual_projection(model.vision_model(pixel_values=p).pooler_output) for p in pixels])
        texts = model.text_projection(model.text_model(**tokens).pooler_output)
        return (normalize(images, dim=-1) * normalize(texts, dim=-1)).sum(-1)
