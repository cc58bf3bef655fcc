"""The MODEL that training gives: what was measured, also where weights have 8 bits."""

import pytest
import torch

from _gradients import check_gradient

PROMPT = "a red circle on a dark background"


@pytest.fixture
def in_8_bits(stock, modules):
    return stock.call("UNETLoader", unet_name=modules.tiny.DIFFUSION_MODEL.name, weight_dtype="fp8_e4m3fn")[0]


def randomise(policy):
    with torch.no_grad():
        for name, p in policy.parameters().items():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))) * 0.05)


def image(stock, model):
    (positive,) = stock.call("CLIPTextEncode", text=PROMPT, clip=stock.clip)
    return stock.sample(model, positive, seed=5).clone()


def difference(a, b):
    return ((a - b).norm() / b.norm()).item()


def test_in_8_bits_it_draws_what_the_policy_draws(make_policy, draw, modules, stock, in_8_bits):
    before = image(stock, in_8_bits)
    with make_policy(in_8_bits) as policy:
        randomise(policy)
        trained, lora = draw(policy), policy.export()
    with torch.inference_mode():
        ours = modules.result.with_lora(in_8_bits, lora)
    (merged,) = stock.call("LoraModelLoader", model=in_8_bits, lora=lora, strength_model=1.0)
    assert difference(before, trained) > 0.05
    assert difference(image(stock, ours), trained) < 1e-4
    assert difference(image(stock, merged), trained) > 1e-3  # the host rounds the sum to 8 bits
    assert torch.equal(image(stock, in_8_bits), before)


def test_plain_weights_get_patches_that_can_be_saved(make_policy, modules, stock):
    with make_policy() as policy:
        randomise(policy)
        lora = policy.export()
    result = modules.result.with_lora(stock.model, lora)
    assert not result.injections
    assert len(result.patches) == len(lora) // 3


def test_loras_on_loras_add_up_and_come_off_in_any_order(make_policy, modules, stock, in_8_bits):
    with make_policy(in_8_bits) as policy:
        randomise(policy)
        lora = policy.export()
    once = modules.result.with_lora(in_8_bits, lora)
    negative = {key: -value if "lora_B" in key else value for key, value in lora.items()}
    both = modules.result.with_lora(once, negative)
    base = image(stock, in_8_bits)
    assert difference(image(stock, both), base) < 1e-4
    assert difference(image(stock, once), base) > 0.05
    assert torch.equal(image(stock, in_8_bits), base)
    hooks = [module._forward_hooks for module in in_8_bits.model.diffusion_model.modules()]
    for patcher in (once, both, in_8_bits):
        patcher.eject_model()
    assert not any(hooks)


def by_host(model, lora):
    import comfy.sd

    return comfy.sd.load_bypass_lora_for_models(model, None, lora, 1.0, 0.0)[0]


@pytest.mark.parametrize("put_on", ["ours", "the host's bypass"])
def test_a_model_with_a_lora_beside_its_weights_can_be_trained(make_policy, modules, in_8_bits, put_on):
    import comfy.sd

    with make_policy(in_8_bits) as policy:
        randomise(policy)
        lora = policy.export()
    if put_on == "ours":
        model = modules.result.with_lora(in_8_bits, lora)
    elif hasattr(comfy.sd, "load_bypass_lora_for_models"):
        with torch.inference_mode():
            model = by_host(in_8_bits, lora)
    else:
        pytest.skip("this ComfyUI has no bypass loader")
    with make_policy(model, targets="all linear") as policy:
        randomise(policy)
        policy.sigmas(4)
        cond, x = policy.encode(PROMPT), torch.ones(1, *policy.latent_shape)
        weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))

        def value():
            y = x - 0.2 * policy.velocity(x, torch.tensor([0.8]), [cond])
            return (weight * policy.velocity(y, torch.tensor([0.6]), [cond])).mean()

        check_gradient(value, list(policy.parameters().values()))
