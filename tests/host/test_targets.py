"""The layers that get an adapter in the host's own networks."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from _tiny_architectures import ARCHITECTURES, build, known_to
from pave_core.policies.targets import find_targets, linear_layers

LAYERS = {
    "SD3": (7, 13, 13),
    "SD3.5-M": (9, 15, 15),
    "AuraFlow": (12, 21, 21),
    "FLUX dev": (12, 20, 18),
    "FLUX schnell": (12, 20, 18),
    "FLUX Fill": (12, 20, 18),
    "FLUX.2": (12, 20, 18),
    "Ovis": (12, 24, 22),
    "LongCat": (12, 20, 18),
    "Chroma": (12, 20, 18),
    "Chroma Radiance": (12, 20, 18),
    "Lumina 2": (8, 20, 20),
    "NewBie": (8, 20, 20),
    "Z-Image": (8, 20, 20),
    "Z-Image-Pixel": (8, 20, 20),
    "HiDream": (12, 33, 33),
    "Qwen-Image": (16, 24, 24),
    "OmniGen 2": (20, 35, 35),
    "Mochi": (7, 13, 13),
    "LTXV": (16, 20, 20),
    "HunyuanVideo": (16, 28, 26),
    "HunyuanVideo I2V": (16, 28, 26),
    "SkyReels I2V": (16, 28, 26),
    "HunyuanVideo 1.5": (16, 28, 26),
    "HunyuanImage 2.1": (16, 28, 26),
    "Wan 2.1": (16, 20, 20),
    "Wan 2.1 I2V": (20, 24, 24),
    "Wan 2.1 Fun Control": (20, 24, 24),
    "Wan 2.1 Camera": (20, 24, 24),
    "Wan 2.2 Camera": (16, 20, 20),
    "Wan 2.1 VACE": (24, 30, 30),
    "Wan 2.1 HuMo": (24, 28, 28),
    "Wan 2.2 S2V": (16, 20, 20),
    "Wan 2.2 Animate": (20, 24, 24),
    "Wan 2.2 5B": (16, 20, 20),
    "CausalAR": (16, 20, 20),
    "Wan Animate 2": (20, 24, 24),
    "Wan SCAIL": (20, 24, 24),
    "Wan SCAIL 2": (20, 24, 24),
    "WanDancer": (28, 32, 32),
    "Cosmos-Predict2": (16, 20, 20),
    "Cosmos-Predict2 I2V": (16, 20, 20),
    "Anima": (64, 80, 80),
    "Boogu": (29, 47, 47),
    "Ideogram 4": (4, 10, 10),
    "Krea 2": (30, 48, 48),
    "MageFlow": (16, 24, 24),
    "JoyImage": (8, 16, 16),
    "Lens": (8, 20, 20),
    "Kandinsky 5": (20, 26, 26),
    "Kandinsky 5 Image": (20, 26, 26),
    "Ernie": (8, 14, 14),
    "PixelDiT": (10, 24, 24),
    "HiDream-O1": (18, 32, 32),
}
"""The layers of attention, attention + MLP and paper in the tiny architectures, counted block by block."""

OTHERS = {"AuraFlow", "Z-Image-Pixel", "HiDream", "Mochi", "Boogu", "Ernie", "PixelDiT", "WanDancer"} | {
    *("Kandinsky 5", "Kandinsky 5 Image")
}
"""Those in which 0.3.0 missed layers, or took such as are neither attention nor MLP."""


@pytest.fixture(scope="module")
def networks(host, comfyui: Path) -> dict[str, Any]:
    return {name: build(name).model.model.diffusion_model for name in known_to(comfyui)}


def test_every_architecture_has_its_attention_its_mlps_and_what_the_paper_s_lora_sits_on(networks):
    kinds = ("attention", "attention + MLP", "paper")
    found = {name: tuple(len(find_targets(each, kind)) for kind in kinds) for name, each in networks.items()}
    assert found == {name: LAYERS[name] for name in networks}
    assert LAYERS.keys() == ARCHITECTURES.keys()


def test_whatever_0_3_0_got_right_is_as_it_was_so_that_its_runs_resume(networks):
    kept = networks.keys() - OTHERS
    assert len(kept) >= 20
    for name in kept:
        for targets in ("attention", "attention + MLP", "all linear"):
            expected = [*of_0_3_0(linear_layers(networks[name]), targets)]
            assert find_targets(networks[name], targets) == expected, (name, targets)


def of_0_3_0(layers: Iterable[str], targets: str) -> Iterator[str]:
    """The rule of 0.3.0: by the parts of a layer's name."""
    kinds = {"attn", "attention", "attn1", "attn2", "self_attn", "cross_attn", "linear1", "linear2"}
    if targets == "attention + MLP":
        kinds |= {"mlp", "ffn", "ff", "feed_forward", "net"}
    for name in layers:
        parts = name.split(".")
        ends = {part.split("_")[-1] for part in parts if part.endswith(("_attn", "_mlp"))}
        named = kinds & {*parts, *ends} and "modulation" not in name and "embed" not in name
        if targets == "all linear" or named:
            yield name


@pytest.mark.parametrize(
    ("name", "attention", "mlp"),
    [
        ("AuraFlow", "double_layers.0.attn.w2q", "double_layers.0.mlpC.c_fc1"),
        ("HiDream", "single_stream_blocks.0.block.attn1.to_q", "double_stream_blocks.0.block.ff_i.experts.1.w2"),
        ("Mochi", "blocks.0.attn.qkv_y", "blocks.0.mlp_y.w1"),
        (
            "Boogu",
            "double_stream_layers.0.img_instruct_attn.processor.img_out",
            "double_stream_layers.0.instruct_feed_forward.linear_3",
        ),
        ("PixelDiT", "patch_blocks.0.attn.proj_y", "patch_blocks.0.mlp_y.w3"),
        (
            "Kandinsky 5",
            "visual_transformer_blocks.0.cross_attention.out_layer",
            "text_transformer_blocks.0.feed_forward.in_layer",
        ),
        ("Ernie", "layers.0.self_attention.to_out.0", "layers.0.mlp.linear_fc2"),
    ],
)
def test_layers_that_0_3_0_missed_are_found(networks, name, attention, mlp):
    if name not in networks:
        pytest.skip(f"this ComfyUI has no {name}")
    assert attention in find_targets(networks[name], "attention")
    assert mlp not in find_targets(networks[name], "attention")
    assert mlp in find_targets(networks[name], "attention + MLP")


def test_layers_narrower_than_the_rank_are_trained_exported_and_told_of(
    make_policy, train_briefly, draw, stock, caplog
):
    """The bundled model's first and last layers are 64 wide, the others 128."""
    with make_policy(rank=100, alpha=50, targets="all linear") as policy:
        train_briefly(policy)
        (remark,) = policy.remarks()
        assert remark.startswith("rank: 3 layers are narrower and get LoRAs of their own width")
        trained, weights = draw(policy), policy.export()
    assert weights["diffusion_model.final_layer.linear.lora_A.weight"].shape == (64, 128)
    assert weights["diffusion_model.final_layer.linear.alpha"] == 32
    assert weights["diffusion_model.final_layer.linear.lora_B.weight"].abs().max() > 0
    (model,) = stock.call("LoraModelLoader", model=stock.model, lora=weights, strength_model=1.0)
    assert "not loaded" not in caplog.text
    (positive,) = stock.call("CLIPTextEncode", text="a red circle on a dark background", clip=stock.clip)
    torch.testing.assert_close(stock.sample(model, positive, seed=5).clone(), trained, atol=2e-3, rtol=1e-3)
    with (
        pytest.raises(ValueError, match=r"^rank: 200 is above the smaller side of every layer.*lower rank"),
        make_policy(rank=200, targets="all linear"),
    ):
        pass
