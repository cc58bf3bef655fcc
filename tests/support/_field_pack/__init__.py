"""A node pack that gives what breaks in the field: values that are not finite. The tests put it into custom_nodes."""

import math

import torch


class NaNModel:
    """A MODEL whose guidance gives NaN, as an attention kernel does that overflows in fp16."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "patch", "field"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": ("MODEL",)}}

    def patch(self, model):
        patched = model.clone()
        patched.set_model_sampler_post_cfg_function(
            lambda args: args["denoised"] * math.nan, disable_cfg1_optimization=True
        )
        return (patched,)


class NaNVAE:
    """A VAE that decodes to NaN, as that of SDXL does in fp16."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("VAE",), "patch", "field"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"vae": ("VAE",)}}

    def patch(self, vae):
        decode = vae.decode
        vae.decode = lambda *args, **kwargs: decode(*args, **kwargs) * math.nan
        return (vae,)


class NaNImages:
    """An IMAGE in which a pixel is not finite."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "make", "field"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"value": ("STRING",)}}

    def make(self, value):
        images = torch.rand(4, 64, 64, 3)
        images[2, 5, 7, 1] = float(value)
        return (images,)


NODE_CLASS_MAPPINGS = {"FieldNaNModel": NaNModel, "FieldNaNVAE": NaNVAE, "FieldNaNImages": NaNImages}
