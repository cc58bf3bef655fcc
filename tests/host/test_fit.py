"""MODELs that cannot be trained are refused by name, at the start; what nodes hang on MODEL; the probe of a size."""

import re
from types import SimpleNamespace

import pytest
import torch

from _tiny_architectures import ARCHITECTURES, build, known_to

PROMPT = "a red circle on a dark background"
SOUND, SHAPES, REFINES = "it makes sound", "it makes 3D shapes", "it refines or enlarges an image"
REFUSED = {
    "SD15": "SD15 is not a flow model",
    "SDXL": "SDXL is not a flow model",
    "ACEStep": SOUND,
    "ACEStep15": SOUND,
    "MiniMaxMusic3": SOUND,
    "Hunyuan3Dv2": SHAPES,
    "Hunyuan3Dv2_1": SHAPES,
    "Hunyuan3Dv2mini": SHAPES,
    "Trellis2": SHAPES,
    "TripoSplat": SHAPES,
    "LTXAV": "video and sound in one latent",
    "MiniMaxH3": "video and sound in one latent",
    "SeedVR2": REFINES,
    "PiD": REFINES,
    "HunyuanImage21Refiner": REFINES,
    "HunyuanVideo15_SR_Distilled": REFINES,
    "RT_DETR_v4": "it analyses images",
    "DepthAnything3": "it analyses images",
    "SAM3": "it analyses images",
    "WAN21_FlowRVS": "WAN21_FlowRVS turns one image or video into another",
}
"""{class of comfy.supported_models: why it is refused}"""
SETTINGS = {"disable_unet_model_creation": True, "image_model": None, "in_channels": 4, "adm_in_channels": None}
"""A model without its network, which the host makes on request."""


@pytest.fixture
def policy_of(modules):
    """policy_of(parts, size) -> a NativePolicy."""

    def made(parts, width=64, height=64, **lora):
        config = modules.config.LoraConfig(**({"rank": 2, "alpha": 4} | lora))
        settings = modules.policy.PolicySettings(parts.model, parts.clip, parts.vae, config)
        return modules.native.NativePolicy(settings, modules.policy.Picture(width, height))

    return made


@pytest.fixture
def with_model(stock):
    """with_model(MODEL) -> it with the bundled CLIP and VAE."""
    return lambda model: SimpleNamespace(model=model, clip=stock.clip, vae=stock.vae)


def test_models_for_other_tasks_are_refused_by_name(policy_of, with_model, modules):
    import comfy.supported_models
    from comfy.model_patcher import ModelPatcher

    known = [name for name in REFUSED if hasattr(comfy.supported_models, name)]
    assert len(known) >= 7
    for name in known:
        config = getattr(comfy.supported_models, name)(dict(SETTINGS))
        config.set_inference_dtype(torch.float32, None)
        cpu = torch.device("cpu")
        model = ModelPatcher(config.get_model({}, "", device=cpu), load_device=cpu, offload_device=cpu)
        with pytest.raises(modules.errors.ConfigError, match=f"^model: .*{REFUSED[name]}.*connect ") as refusal:
            policy_of(with_model(model))
        assert name in str(refusal.value)


def test_meanflow_is_refused_and_its_base_is_not(policy_of, modules):
    with pytest.raises(modules.errors.ConfigError, match="^model: HunyuanImage21 is distilled by meanflow: .*connect"):
        policy_of(build("HunyuanImage 2.1", meanflow=True), 128, 128)
    policy_of(build("HunyuanImage 2.1"), 128, 128)


@pytest.mark.parametrize("node", ["EasyCache", "LazyCache"])
def test_the_host_s_caches_that_skip_steps_are_refused(policy_of, with_model, modules, stock, node):
    settings = {"reuse_threshold": 0.2, "start_percent": 0.15, "end_percent": 0.95, "verbose": False}
    (cached,) = stock.call(node, model=stock.model, **settings)
    with pytest.raises(
        modules.errors.ConfigError, match=f"(?i)^model: a node has put '{node}' on it.*before that node"
    ):
        policy_of(with_model(cached))
    policy_of(with_model(stock.model))


class TeaCache:
    """As packs do it: a function in a method of the node."""

    def apply(self, model, way):
        def calls(apply_model, args):
            return apply_model(args["input"], args["timestep"], **args["c"])

        model = model.clone()
        if way == "wrapper":
            model.set_model_unet_function_wrapper(calls)
        elif way == "object":
            model.add_object_patch("diffusion_model.forward_orig", calls)
        else:
            model.model_options["transformer_options"]["patches_replace"] = {"dit": {("double_block", 0): calls}}
        return model


@pytest.mark.parametrize("way", ["wrapper", "object", "block"])
def test_a_pack_s_cache_is_known_by_the_name_of_its_function(policy_of, with_model, modules, stock, way):
    with pytest.raises(modules.errors.ConfigError, match="^model: a node has put 'TeaCache.* skips calls"):
        policy_of(with_model(TeaCache().apply(stock.model, way)))


@pytest.mark.parametrize(
    "name",
    ["TaylorSeerLite", "ApplyFBCacheOnModel", "MagCache", "AdaCacheNode", "CacheDiT", "PyramidAttentionBroadcast"],
)
def test_other_packs_caches_are_known_too(policy_of, with_model, modules, stock, name):
    def calls(apply_model, args):
        return apply_model(args["input"], args["timestep"], **args["c"])

    calls.__qualname__ = f"{name}.patch.<locals>.wrapper"
    model = stock.model.clone()
    model.set_model_unet_function_wrapper(calls)
    with pytest.raises(modules.errors.ConfigError, match=f"^model: a node has put '{name}.* skips calls"):
        policy_of(with_model(model))


def test_a_wrapper_that_skips_nothing_is_left_in(policy_of, with_model, modules, stock, draw):
    def twice(apply_model, args):
        return 2 * apply_model(args["input"], args["timestep"], **args["c"])

    model = stock.model.clone()
    model.set_model_unet_function_wrapper(twice)
    with policy_of(with_model(stock.model)) as policy:
        plain = draw(policy, PROMPT)
    with policy_of(with_model(model)) as policy:
        assert not torch.allclose(draw(policy, PROMPT), plain, atol=1e-2)


def compiled(model, stock, way):
    if way == "TorchCompileModel":
        return stock.call("TorchCompileModel", model=model, backend="inductor")[0]
    model = model.clone()
    for name in ("diffusion_model",) if way == "whole" else ("diffusion_model.joint_blocks.0",):
        model.add_object_patch(name, torch.compile(model.get_model_object(name), backend="eager"))
    return model


@pytest.mark.parametrize("way", ["TorchCompileModel", "whole", "block"])
def test_a_compiled_model_is_trained_uncompiled_under_the_host_s_names(
    policy_of, with_model, train_briefly, draw, stock, way
):
    model = compiled(stock.model, stock, way)
    patches, wrappers = dict(model.object_patches), str(model.wrappers)
    if way != "TorchCompileModel":  # which needs a compiler
        (positive,) = stock.call("CLIPTextEncode", text=PROMPT, clip=stock.clip)
        stock.sample(model, positive, seed=1)  # generate first, then train
        assert any("_orig_mod" in name for name, _ in model.model.named_modules())
    with policy_of(with_model(stock.model)) as policy:
        plain = draw(policy, PROMPT)
        assert policy.remarks() == []
    with policy_of(with_model(model)) as policy:
        assert torch.equal(draw(policy, PROMPT), plain)
        train_briefly(policy, iterations=1)
        exported = policy.export()
        assert any("without torch.compile" in remark for remark in policy.remarks())
    assert not any("_orig_mod" in key for key in exported)
    assert dict(model.object_patches) == patches
    assert str(model.wrappers) == wrappers


def test_a_network_that_was_compiled_in_place_is_refused(policy_of, modules):
    parts = build("SD3")
    network = parts.model.model.diffusion_model
    network.joint_blocks[0] = torch.compile(network.joint_blocks[0])
    with pytest.raises(
        modules.errors.ConfigError, match=r"^model: joint_blocks\.0 .* compiled in place .*load the model"
    ):
        policy_of(parts)


def test_nunchaku_is_refused_with_the_files_to_use_instead(policy_of, modules):
    class SVDQW4A4Linear(torch.nn.Module):
        """As in Nunchaku: 4-bit weights, and a forward that keeps no graph."""

        in_features = out_features = 128

    parts = build("SD3")
    parts.model.model.diffusion_model.joint_blocks[0].x_block.attn.qkv = SVDQW4A4Linear()
    with pytest.raises(
        modules.errors.ConfigError,
        match=r"^model: joint_blocks\.0\.x_block\.attn\.qkv \(SVDQW4A4Linear\) is Nunchaku's.*fp8.*GGUF",
    ):
        policy_of(parts)


def test_schnell_is_warned_about_and_its_class_s_other_models_are_not(policy_of, comfyui):
    known = known_to(comfyui)
    for name in ("FLUX schnell", "FLUX dev", "Ovis", "Chroma"):
        if name in known:
            remarks = policy_of(build(name)).remarks()
            assert [bool(re.search("few steps.*train the base model", each)) for each in remarks] == (
                [True] if name == "FLUX schnell" else []
            ), name


@pytest.mark.parametrize(
    ("file", "warned"),
    [
        ("z_image_turbo_bf16", True),
        ("sd3.5_large_turbo", True),
        ("hunyuanvideo1.5_cfg_distilled", False),
        ("base", False),
    ],
)
def test_a_distilled_model_is_known_by_its_file_s_name_where_the_host_tells_it(
    policy_of, with_model, host, modules, stock, file, warned
):
    (host.base / "models" / "diffusion_models" / f"{file}.safetensors").write_bytes(
        modules.tiny.DIFFUSION_MODEL.read_bytes()
    )
    host.folder_paths.filename_list_cache.clear()
    (model,) = stock.call("UNETLoader", unet_name=f"{file}.safetensors", weight_dtype="default")
    if not hasattr(model, "cached_patcher_init"):
        pytest.skip("this ComfyUI does not remember the file of a MODEL")
    remarks = policy_of(with_model(model)).remarks()
    assert [f"{file}.safetensors looks like" in each for each in remarks] == ([True] if warned else [])


@pytest.mark.parametrize("name", ["HunyuanVideo", "Mochi", "Wan 2.1 VACE", "Kandinsky 5", "HiDream-O1"])
def test_a_size_that_the_network_cannot_take_is_refused_with_the_next_that_work(policy_of, modules, comfyui, name):
    if name not in known_to(comfyui):
        pytest.skip(f"this ComfyUI has no {name}")
    parts = build(name)
    with policy_of(parts, 72, 88) as policy:
        policy.sigmas(4)
        cond = policy.encode(PROMPT)
        with pytest.raises(
            modules.errors.ConfigError, match="^width, height: .* cannot take 72x88 .*: use "
        ) as refusal:
            policy.probe(cond)
    sizes = re.findall(r"(\d+)x(\d+)", str(refusal.value).rpartition("use ")[2])
    assert len(sizes) in (1, 2)
    for width, height in sizes:
        with policy_of(parts, int(width), int(height)) as policy:
            policy.sigmas(4)
            policy.probe(policy.encode(PROMPT))


def test_a_size_that_it_takes_costs_one_call_and_leaves_no_gradient(policy_of, stock):
    parts, calls = build("HunyuanVideo"), []
    parts.model.set_model_unet_function_wrapper(
        lambda apply_model, args: calls.append(1) or apply_model(args["input"], args["timestep"], **args["c"])
    )
    with policy_of(parts) as policy:
        policy.sigmas(4)
        policy.probe(policy.encode(PROMPT))
        assert all(p.grad is None for p in policy.parameters().values())
    assert len(calls) == 1
    assert ARCHITECTURES["HunyuanVideo"].factor == 8


def patched(stock, post_cfg):
    model = stock.model.clone()
    model.set_model_sampler_post_cfg_function(post_cfg)
    return model


def probed(policy):
    with policy:
        policy.sigmas(4)
        policy.probe(policy.encode(PROMPT))


def test_values_that_are_not_finite_are_refused_with_the_usual_culprits(policy_of, with_model, modules, stock):
    model = patched(stock, lambda args: args["denoised"] * float("nan"))
    with pytest.raises(modules.errors.ConfigError, match="^model: 100% .* not finite: .*fp16.*--fast.*Sage"):
        probed(policy_of(with_model(model)))


def test_a_call_that_fails_at_any_size_is_not_blamed_on_the_size(policy_of, with_model, modules, stock):
    def fails(args):
        raise KeyError("pooled_output")

    with pytest.raises(modules.errors.ConfigError, match="^model: a first call .* SD3 failed, at any size .*pooled"):
        probed(policy_of(with_model(patched(stock, fails))))


def test_want_of_memory_and_cancel_are_not_taken_for_a_size(policy_of, with_model, stock):
    import comfy.model_management

    for error in (torch.cuda.OutOfMemoryError("no memory"), comfy.model_management.InterruptProcessingException()):

        def fails(args, error=error):
            raise error

        with pytest.raises(type(error)):
            probed(policy_of(with_model(patched(stock, fails))))
