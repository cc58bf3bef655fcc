"""What is looked at before the first step: layers without a gradient, gradients that are lost or wrong."""

import pytest
import torch

import _tiny_architectures

PROMPT = "a red circle on a dark background"


def checked(policy):
    policy.sigmas(4)
    return policy.check_gradient(policy.encode(PROMPT))


def override(attention):
    """A patch on MODEL as packs set it: attention(original, *args, **kwargs) in place of the host's."""

    def patched(model):
        model = model.clone()
        options = model.model_options.setdefault("transformer_options", {})
        options["optimized_attention_override"] = attention
        return model

    return patched


def test_the_bundled_model_passes_and_is_as_before(make_policy):
    with make_policy() as policy:
        before = {name: p.detach().clone() for name, p in policy.parameters().items()}
        check = checked(policy)
        assert check.idle == ()
        assert check.text == f"gradient check: {len(before) // 2} of {len(before) // 2} layers get a gradient"
        assert all(p.grad is None and torch.equal(p, before[name]) for name, p in policy.parameters().items())


@pytest.mark.parametrize("checkpointing", ["on", "off"])
@pytest.mark.parametrize(
    ("name", "idle"),
    [("Qwen-Image", "transformer_blocks.1.txt_mlp.net.0.proj"), ("OmniGen 2", "ref_image_patch_embedder")],
)
def test_layers_that_change_nothing_get_no_lora(make_policy, train_briefly, name, idle, checkpointing):
    model, clip, vae = _tiny_architectures.build(name)
    memory = {"checkpointing": checkpointing}
    with make_policy(model, clip=clip, vae=vae, targets="all linear", memory=memory) as policy:
        all_of_them = policy.parameters().keys()
        check = checked(policy)
        assert idle in check.idle
        assert "change nothing, and get no LoRA" in check.text
        policy.leave_out(check.idle)
        gone = all_of_them - policy.parameters().keys()
        assert {key.rsplit(".lora_", 1)[0] for key in gone} == set(check.idle)
        records = train_briefly(policy)
        assert all(p.grad is None for p in policy.parameters().values())
        moved = [p.abs().max() > 0 for key, p in policy.parameters().items() if key.endswith("lora_B.weight")]
    assert all(record.grad_norm > 0 for record in records)
    assert all(moved)
    assert not any(idle in key for key in policy.export())


@pytest.mark.parametrize("checkpointing", ["on", "off"])
@pytest.mark.parametrize("name", ["LTXV", "PixelDiT"])
def test_blocks_that_write_over_what_autograd_keeps_are_checkpointed(
    make_policy, train_briefly, comfyui, name, checkpointing
):
    if name not in _tiny_architectures.known_to(comfyui):
        pytest.skip(f"this ComfyUI has no {name}")
    model, clip, vae = _tiny_architectures.build(name)
    memory = {"checkpointing": checkpointing}
    with make_policy(model, clip=clip, vae=vae, memory=memory) as policy:
        policy.leave_out(checked(policy).idle)
        assert all(record.grad_norm > 0 for record in train_briefly(policy))


def test_attention_without_a_gradient_is_refused_with_the_layers(make_policy, stock, modules):
    def inference_only(original, *args, **kwargs):
        with torch.no_grad():
            return original(*args, **kwargs)

    with make_policy(override(inference_only)(stock.model), targets="attention") as policy:
        message = r"^model: \d+ layers \(.*attn\.qkv.*\) get no gradient, although the image depends on them.*Sage"
        with pytest.raises(modules.errors.ConfigError, match=message):
            checked(policy)
        assert all(p.grad is None for p in policy.parameters().values())
        assert all(p.abs().max() == 0 for name, p in policy.parameters().items() if "lora_B" in name)


def test_a_network_without_any_gradient_is_refused(make_policy, stock, modules):
    model = stock.model.clone()

    def without(apply, options):
        with torch.no_grad():
            return apply(options["input"], options["timestep"], **options["c"])

    model.set_model_unet_function_wrapper(without)
    with make_policy(model) as policy, pytest.raises(modules.errors.ConfigError, match="no gradient reaches the LoRA"):
        checked(policy)


def test_values_that_are_not_finite_are_refused_before_anything_else(make_policy, stock, modules):
    model = stock.model.clone()
    model.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * float("nan"))
    message = "^model: its output is not finite: .*fp16.*Sage"
    with make_policy(model) as policy, pytest.raises(modules.errors.ConfigError, match=message):
        checked(policy)


def test_a_cache_that_skips_calls_is_refused(make_policy, stock, modules):
    model, kept = stock.model.clone(), []

    def halved(args):
        kept.append(args["denoised"])
        return args["denoised"] if len(kept) == 1 else args["denoised"] * 0 + kept[0].detach() * 0.5

    model.set_model_sampler_post_cfg_function(halved)
    with make_policy(model) as policy, pytest.raises(modules.errors.ConfigError, match="two calls .* differ by"):
        checked(policy)


def test_a_wrong_gradient_with_checkpointing_is_refused(make_policy, modules, monkeypatch):
    """Blocks that hide a tensor from the function that computes them again."""
    model, clip, vae = _tiny_architectures.build("Chroma")  # its modulations are dataclasses
    monkeypatch.setattr(modules.recompute.dataclasses, "is_dataclass", lambda value: False)
    made = make_policy(model, clip=clip, vae=vae, targets="all linear", memory={"checkpointing": "on"})
    message = r"^checkpointing: the gradient of .* is not the same"
    with made as policy, pytest.raises(modules.errors.ConfigError, match=message):
        checked(policy)
