"""A LoRA that was trained on a diffusers network, in the host's own network of the same model.

The host's tiny model is converted by diffusers' own converters, so that both networks are the same function. A random
adapter on diffusers' is exported, and loaded by the stock loader: no key is missed, and the networks agree again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from _tiny_architectures import ARCHITECTURES, build_model

SIGMA = 0.6
SAME = 1e-4
HEIGHT, WIDTH, FRAMES, TOKENS = 8, 4, 2, 6  # of latents, and of the text; at odd sizes Qwen-Image has other positions


def sd3(network: Any, x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    text, pooled = cond["c_crossattn"], cond["y"]
    return network(x, encoder_hidden_states=text, pooled_projections=pooled, timestep=1000 * sigma).sample


def flux(network: Any, x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    from diffusers import FluxPipeline

    b, c, h, w = x.shape
    v = network(
        FluxPipeline._pack_latents(x, b, c, h, w),
        encoder_hidden_states=cond["c_crossattn"],
        pooled_projections=cond["y"],
        timestep=sigma,
        guidance=cond.get("guidance"),
        img_ids=FluxPipeline._prepare_latent_image_ids(b, h // 2, w // 2, x.device, x.dtype),
        txt_ids=torch.zeros(TOKENS, 3),
    ).sample
    return FluxPipeline._unpack_latents(v, 8 * h, 8 * w, 8)


def flux2(network: Any, x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    from diffusers import Flux2Pipeline

    ids = Flux2Pipeline._prepare_latent_ids(x)
    v = network(
        Flux2Pipeline._pack_latents(x),
        encoder_hidden_states=cond["c_crossattn"],
        timestep=sigma,
        guidance=cond.get("guidance"),
        img_ids=ids,
        txt_ids=Flux2Pipeline._prepare_text_ids(cond["c_crossattn"]),
    ).sample
    return Flux2Pipeline._unpack_latents_with_ids(v, ids)


def qwen_image(network: Any, x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    from diffusers import QwenImagePipeline

    b, c, _, h, w = x.shape
    v = network(
        QwenImagePipeline._pack_latents(x, b, c, h, w),
        encoder_hidden_states=cond["c_crossattn"],
        encoder_hidden_states_mask=torch.ones(b, TOKENS, dtype=torch.long),
        timestep=sigma,
        img_shapes=[[(1, h // 2, w // 2)]],
    ).sample
    return QwenImagePipeline._unpack_latents(v, 8 * h, 8 * w, 8)


def z_image(network: Any, x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    (v,) = network([x[0].unsqueeze(1)], 1 - sigma, [cond["c_crossattn"][0]]).sample
    return -v.squeeze(1).unsqueeze(0)


def aura_flow(network: Any, x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    return network(x, encoder_hidden_states=cond["c_crossattn"], timestep=sigma).sample


def lumina2(network: Any, x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    mask = torch.ones(len(x), TOKENS, dtype=torch.bool)
    return -network(x, 1 - sigma, cond["c_crossattn"], mask).sample


def wan(network: Any, x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    return network(x, 1000 * sigma, cond["c_crossattn"]).sample


def ltx(network: Any, x: Tensor, sigma: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
    from diffusers import LTXPipeline

    frames, h, w = x.shape[2:]
    v = network(
        LTXPipeline._pack_latents(x),
        encoder_hidden_states=cond["c_crossattn"],
        timestep=1000 * sigma,
        encoder_attention_mask=cond["attention_mask"],
        num_frames=frames,
        height=h,
        width=w,
        rope_interpolation_scale=(8 / 25, 32, 32),
    ).sample
    return LTXPipeline._unpack_latents(v, frames, h, w)


@dataclass(frozen=True)
class Case:
    """A model that both have: its name in ARCHITECTURES with other settings, and diffusers' class, settings and call.

    cond: what the host's network is given besides text and pooled text.
    """

    name: str
    diffusers: str
    call: Callable[..., Tensor]
    config: Mapping[str, Any]
    host: Mapping[str, Any] = field(default_factory=dict)
    cond: Mapping[str, Any] = field(default_factory=dict)


HEADS = {"num_attention_heads": 2, "attention_head_dim": 24}
SD3 = {
    **{"num_attention_heads": 2, "attention_head_dim": 64, "num_layers": 2, "sample_size": 8, "pos_embed_max_size": 8},
    **{"joint_attention_dim": 32, "caption_projection_dim": 128, "pooled_projection_dim": 32},
}
FLUX = {
    **HEADS,
    **{"num_layers": 2, "num_single_layers": 2, "joint_attention_dim": 32, "pooled_projection_dim": 32},
    **{"in_channels": 64, "axes_dims_rope": (4, 10, 10), "guidance_embeds": True},
}
FLUX2 = {
    **HEADS,
    **{"in_channels": 128, "num_layers": 2, "num_single_layers": 2, "joint_attention_dim": 32},
    **{"axes_dims_rope": (4, 4, 8, 8), "guidance_embeds": True},
}
GUIDANCE = {"guidance": torch.tensor([3.5])}

CASES = {
    "SD3": Case("SD3", "SD3Transformer2DModel", sd3, SD3, {"qk_norm": None}),
    "SD3.5-M": Case(
        "SD3.5-M", "SD3Transformer2DModel", sd3, {**SD3, "qk_norm": "rms_norm", "dual_attention_layers": (0,)}
    ),
    "FLUX dev": Case("FLUX dev", "FluxTransformer2DModel", flux, FLUX, {"mlp_ratio": 4.0}, GUIDANCE),
    "FLUX schnell": Case(
        "FLUX schnell", "FluxTransformer2DModel", flux, {**FLUX, "guidance_embeds": False}, {"mlp_ratio": 4.0}
    ),
    "FLUX.2": Case("FLUX.2", "Flux2Transformer2DModel", flux2, FLUX2, cond=GUIDANCE),
    "FLUX.2 klein": Case(
        "FLUX.2", "Flux2Transformer2DModel", flux2, {**FLUX2, "guidance_embeds": False}, {"guidance_embed": False}
    ),
    "Qwen-Image": Case(
        "Qwen-Image",
        "QwenImageTransformer2DModel",
        qwen_image,
        {**HEADS, "num_layers": 2, "joint_attention_dim": 32, "axes_dims_rope": (8, 8, 8)},
    ),
    "Z-Image": Case(
        "Z-Image",
        "ZImageTransformer2DModel",
        z_image,
        {
            **{"dim": 1024, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 32, "n_kv_heads": 32, "cap_feat_dim": 32},
            **{"axes_dims": [8, 12, 12], "axes_lens": [300, 512, 512]},
        },
        {
            # What diffusers fixes: 1024 is the hidden width of its timesteps.
            **{"dim": 1024, "ffn_dim_multiplier": 8 / 3, "multiple_of": 1, "pad_tokens_multiple": 32},
            **{"n_layers": 1, "n_heads": 32, "n_kv_heads": 32},
        },
        {"num_tokens": TOKENS},
    ),
    "AuraFlow": Case(
        "AuraFlow",
        "AuraFlowTransformer2DModel",
        aura_flow,
        {
            **HEADS,
            **{"sample_size": 8, "num_mmdit_layers": 1, "num_single_dit_layers": 1, "joint_attention_dim": 32},
            **{"caption_projection_dim": 48, "pos_embed_max_size": 64},
        },
    ),
    "Lumina 2": Case(
        "Lumina 2",
        "Lumina2Transformer2DModel",
        lumina2,
        {
            **{"hidden_size": 48, "num_layers": 2, "num_refiner_layers": 1, "cap_feat_dim": 32, "multiple_of": 16},
            **{"num_attention_heads": 6, "num_kv_heads": 2, "axes_dim_rope": (4, 2, 2)},
        },
        {"n_heads": 6, "n_kv_heads": 2, "axes_dims": [4, 2, 2], "ffn_dim_multiplier": 4.0},
        {"num_tokens": TOKENS},
    ),
    "Wan": Case(
        "Wan 2.1",
        "WanTransformer3DModel",
        wan,
        {**HEADS, "text_dim": 32, "freq_dim": 32, "ffn_dim": 96, "num_layers": 2, "rope_max_seq_len": 32},
    ),
    "LTX": Case(
        "LTXV",
        "LTXVideoTransformer3DModel",
        ltx,
        {**HEADS, "cross_attention_dim": 48, "num_layers": 2, "caption_channels": 32},
        cond={"attention_mask": torch.tensor([[1] * (TOKENS - 1) + [0]]), "frame_rate": 25},
    ),
}


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def difference(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


def converted(checkpoint: dict[str, Tensor], network: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The host's weights in diffusers' layout, by diffusers' converter.

    That splits fused layers at the rows of the released models: here in the same proportions.
    """
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    split = torch.split

    def in_proportion(tensor: Tensor, sizes: Any, dim: int = 0) -> Any:
        return split(tensor, [size * tensor.shape[dim] // sum(sizes) for size in sizes], dim)

    # Newer hosts call the scale of FLUX's norms a weight, and read checkpoints of both.
    names = {key: key.replace("query_norm.weight", "query_norm.scale") for key in checkpoint}
    names = {key: name.replace("key_norm.weight", "key_norm.scale") for key, name in names.items()}
    checkpoint = {names[key]: value.clone() for key, value in checkpoint.items()}
    with monkeypatch.context() as patched:
        patched.setattr(torch, "split", in_proportion)
        return SINGLE_FILE_LOADABLE_CLASSES[network]["checkpoint_mapping_fn"](checkpoint=checkpoint)


class Both:
    """The host's MODEL and diffusers' network of a case, with the same weights."""

    def __init__(self, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
        import diffusers

        self.case, architecture = case, ARCHITECTURES[case.name]
        self.model = build_model(case.name, **case.host)
        size = (FRAMES, HEIGHT, WIDTH) if architecture.frames else (HEIGHT, WIDTH)
        if case.name == "Qwen-Image":
            size = (1, HEIGHT, WIDTH)
        self.x = randn(1, architecture.channels, *size, seed=1)
        self.cond = {"c_crossattn": randn(1, TOKENS, 32, seed=2), **case.cond}
        if architecture.text.pooled:
            self.cond["y"] = randn(1, 32, seed=3)
        self.network = getattr(diffusers, case.diffusers)(**case.config)
        weights = self.model.model.diffusion_model.state_dict()
        self.network.load_state_dict(converted(weights, case.diffusers, monkeypatch))

    def velocity_of_host(self, model: Any) -> Tensor:
        from comfy import model_management

        sigma = torch.tensor([SIGMA])
        with torch.inference_mode():
            model_management.load_models_gpu([model])
            options = {"sample_sigmas": sigma}
            device = model.load_device
            cond = {name: each.to(device) if isinstance(each, Tensor) else each for name, each in self.cond.items()}
            x = self.x.to(device)
            denoised = model.model.apply_model(x, sigma.to(device), transformer_options=options, **cond)
            return (self.x - denoised.cpu()) / SIGMA

    @torch.no_grad()
    def velocity_of_diffusers(self) -> Tensor:
        v = self.case.call(self.network, self.x, torch.tensor([SIGMA]), self.cond)
        return v.view_as(self.x)


def random_adapter(modules: Any, network: Any, targets: str, rank: int = 4) -> Any:
    """An adapter with random A and B on a network."""
    config = modules.config.LoraConfig(rank=rank, alpha=2 * rank, targets=targets)
    fresh = torch.Generator().manual_seed(0)
    adapter = modules.module("pave_core.policies.adapter").LoraAdapter(
        network, config, generator=fresh, device=torch.device("cpu")
    )
    with torch.no_grad():
        for i, p in enumerate(adapter.parameters().values()):
            p.copy_(randn(*p.shape, seed=i) * 0.1)
    return adapter


@pytest.fixture(scope="module", params=CASES)
def both(request, host, modules):
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Both(CASES[request.param], monkeypatch)


def test_every_network_with_a_table_is_here_and_the_host_has_no_sana(modules):
    import comfy.supported_models

    assert set(modules.module("pave_core.policies.diffusers.export").TABLES) == {
        each.diffusers for each in CASES.values()
    }
    assert not [each.__name__ for each in comfy.supported_models.models if "sana" in each.__name__.lower()]


def test_the_networks_are_the_same(both):
    assert difference(both.velocity_of_diffusers(), both.velocity_of_host(both.model)) < SAME


def check(both: Both, adapter: Any, modules: Any, stock: Any, caplog: pytest.LogCaptureFixture) -> None:
    """That the host's MODEL with the exported LoRA is diffusers' network with the adapter, which comes off."""
    base = both.velocity_of_host(both.model)
    try:
        trained = both.velocity_of_diffusers()
        lora = modules.module("pave_core.policies.diffusers.export").export(both.network, adapter.export(prefix=""))
    finally:
        adapter.detach()
    assert lora.format == "host"
    with caplog.at_level(logging.INFO):
        (model,) = stock.call("LoraModelLoader", model=both.model, lora=lora.weights, strength_model=1.0)
    assert "not loaded" not in caplog.text
    assert len(model.patches) == len(lora.weights) // 3
    assert difference(trained, base) > 0.01
    assert difference(both.velocity_of_host(model), trained) < SAME
    assert difference(both.velocity_of_host(both.model), base) < SAME


@pytest.mark.parametrize("targets", ["attention", "attention + MLP", "paper", "all linear"])
def test_the_stock_loader_takes_the_lora_whole(both, targets, modules, stock, caplog):
    check(both, random_adapter(modules, both.network, targets), modules, stock, caplog)


def test_layers_that_are_narrow_or_left_out(both, modules, stock, caplog):
    """Parts of one layer of the host with adapters of different ranks, or without any."""
    adapter = random_adapter(modules, both.network, "all linear", rank=20)
    layers = dict.fromkeys(key.rsplit(".lora_", 1)[0] for key in adapter.parameters())
    adapter.leave_out([*layers][1::3])
    check(both, adapter, modules, stock, caplog)


def test_the_host_would_say_that_it_missed_a_key(both, modules, stock, caplog):
    adapter = random_adapter(modules, both.network, "attention")
    adapter.detach()
    weights = adapter.export(prefix="")
    lora = modules.module("pave_core.policies.diffusers.export").to_diffusers(weights)
    lora = {key.replace("transformer.", "not.there."): value for key, value in lora.items()}
    stock.call("LoraModelLoader", model=both.model, lora=lora, strength_model=1.0)
    assert caplog.text.count("not loaded") == len(lora)
