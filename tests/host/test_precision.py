"""Gradients of a network that computes in fp16, and the dtype that the adapter computes in."""

import math

import pytest
import torch

PROMPT = "a red circle on a dark background"
SIGMAS = (1.0, 0.9, 0.75, 0.5, 0.0)


@pytest.fixture
def in_fp16(stock, modules):
    """The bundled model in fp16, as the host runs SD3.5 on a card; on a CPU it would compute in fp32."""
    (model,) = stock.call("UNETLoader", unet_name=modules.tiny.DIFFUSION_MODEL.name, weight_dtype="default")
    with torch.inference_mode():
        network = model.model.diffusion_model.half()
    network.dtype, model.model.manual_cast_dtype = torch.float16, None
    return model


def gradient(policy, modules, scale):
    """The adapter's gradient at one branch step, computed with the loss times `scale`; and that at the output of v."""
    names = ("flow.paving", "objective.loss", "config.objective")
    paving, loss, objective = (modules.module(f"pave_core.{name}") for name in names)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, *policy.latent_shape, generator=generator)
    policy.sigmas(4)
    outputs = []

    def velocity(x, sigma, conds):
        v = policy.velocity(x, sigma, conds).half().float()  # as it leaves the network
        v.retain_grad()
        outputs.append(v)
        return v

    with torch.no_grad():
        for name, p in policy.parameters().items():
            if "lora_B" in name:
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))) * 0.02)
    step = paving.CoarseStep(x, 1, [policy.encode(PROMPT)])
    (p,) = paving.paved_transitions(velocity, [step], sigmas=SIGMAS, eta=0.8, segments=(2, 3))
    branches = p[1].sample(torch.randn(6, *policy.latent_shape, generator=generator)).detach()
    advantages = torch.tensor([1.0, -1.0, 0.5, -0.5, 2.0, -2.0])
    value, _ = loss.decomposition_loss(p, branches[None], advantages[None], config=objective.PaveConfig())
    (scale * value).backward()
    adapter = torch.cat([p.grad.flatten() for p in policy.parameters().values()]) / scale
    return adapter, outputs[0].grad


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0).item()


def test_the_gradient_in_fp16_is_that_in_fp32_where_the_loss_is_scaled(make_policy, modules, in_fp16):
    with make_policy(size=256) as policy:
        assert policy.loss_scale == 1
        expected, _ = gradient(policy, modules, 1.0)
    with make_policy(in_fp16, size=256) as policy:
        assert policy.loss_scale == 2 ** int(math.log2(math.prod(policy.latent_shape)))
        found, at_output = gradient(policy, modules, policy.loss_scale)
        for p in policy.parameters().values():
            p.grad = None
        unscaled, at_output_unscaled = gradient(policy, modules, 1.0)
    assert cosine(found, expected) > 0.99
    lost = (at_output_unscaled.half() == 0).float().mean()
    print(f"\ncosine with fp32: {cosine(found, expected):.5f} scaled, {cosine(unscaled, expected):.5f} unscaled")
    print(f"elements of the output's gradient that fp16 rounds to 0: {lost:.1%} unscaled")
    assert cosine(found, expected) > cosine(unscaled, expected)
    assert lost > 0
    assert (at_output.half() == 0).float().mean() < lost


@pytest.mark.parametrize("size", [512, 1024])
def test_the_gradient_at_the_output_survives_fp16_at_large_sizes(modules, size):
    """For D of FLUX and SD3.5, 16 channels at an eighth of the size, and the released settings."""
    names = ("flow.paving", "flow.schedule", "objective.loss", "config.objective")
    paving, schedule, loss, objective = (modules.module(f"pave_core.{name}") for name in names)
    shape = (16, size // 8, size // 8)
    generator = torch.Generator().manual_seed(0)
    x, advantages = torch.randn(1, *shape, generator=generator), torch.randn(12, generator=generator)
    for k in (0, 2, 4, 6):
        v = torch.randn(1, *shape, generator=generator).requires_grad_()
        (p,) = paving.paved_transitions(
            lambda x, sigma, conds, v=v: v,
            [paving.CoarseStep(x, k, [None])],
            sigmas=schedule.shifted_sigmas(16, 3.0),
            eta=0.8,
            segments=(),
        )
        branches = p[1].sample(torch.randn(12, *shape, generator=generator)).detach()
        config = objective.PaveConfig(segments=())
        value, _ = loss.decomposition_loss(p, branches[None], advantages[None], config=config)
        (g,) = torch.autograd.grad(value / 4, v)
        scaled = (g * 2 ** int(math.log2(math.prod(shape)))).half()
        lost = [(each == 0).float().mean().item() for each in (g.half(), scaled)]
        print(f"\n{size} px, k = {k}: {lost[0]:.0%} of the elements are 0 in fp16, {lost[1]:.2%} with the scale")
        assert lost[1] < 0.01
        assert cosine(scaled.flatten(), g.flatten()) > 0.99
    assert lost[0] > 0.1  # at the last k, which loses the least: without a scale there is something to lose


def test_a_scale_that_is_too_large_is_halved_for_good_and_nothing_is_lost(make_policy, modules, train_briefly, in_fp16):
    with make_policy(in_fp16) as policy:
        policy.loss_scale = 2.0**40
        records = train_briefly(policy)
        assert not any(record.skipped for record in records)
        large = [p.detach().clone() for p in policy.parameters().values()]
    with make_policy(in_fp16) as policy:
        train_briefly(policy)
        usual = [p.detach().clone() for p in policy.parameters().values()]
    moved = torch.cat([p.flatten() for p in usual])
    assert (torch.cat([p.flatten() for p in large]) - moved).norm() < 0.05 * moved.norm()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_adapter_computes_in_the_networks_dtype_with_parameters_in_fp32(make_policy, stock, modules, dtype):
    (model,) = stock.call("UNETLoader", unet_name=modules.tiny.DIFFUSION_MODEL.name, weight_dtype="default")
    with torch.inference_mode():
        network = model.model.diffusion_model.to(dtype)
    network.dtype, model.model.manual_cast_dtype = dtype, None
    seen, linear = set(), torch.nn.functional.linear

    def watched(x, weight, bias=None):
        seen.add((x.dtype, weight.dtype))
        return linear(x, weight, bias)

    with make_policy(model) as policy, pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "linear", watched)
        v = policy.velocity(torch.zeros(1, *policy.latent_shape), torch.tensor([0.5]), [policy.encode(PROMPT)])
        assert all(p.dtype == torch.float32 for p in policy.parameters().values())
    assert v.dtype == torch.float32
    assert (dtype, dtype) in seen
    assert not any(weight == torch.float32 and x == dtype for x, weight in seen)


def test_a_change_of_the_adapter_counts_at_once(make_policy, stock, modules):
    """Its matrices in the network's dtype are kept from call to call."""
    (model,) = stock.call("UNETLoader", unet_name=modules.tiny.DIFFUSION_MODEL.name, weight_dtype="default")
    with torch.inference_mode():
        network = model.model.diffusion_model.to(torch.bfloat16)
    network.dtype, model.model.manual_cast_dtype = torch.bfloat16, None
    with make_policy(model) as policy, torch.no_grad():
        x, cond = torch.ones(1, *policy.latent_shape), policy.encode(PROMPT)

        def velocity():
            return policy.velocity(x, torch.tensor([0.5]), [cond])

        base = velocity()
        for name, p in policy.parameters().items():
            if "lora_B" in name:
                p.fill_(0.1)
        moved = velocity()
        with torch.enable_grad():
            assert torch.equal(velocity().detach(), moved)
        for name, p in policy.parameters().items():
            if "lora_B" in name:
                p.zero_()
        assert torch.equal(velocity(), base)
        assert not torch.equal(moved, base)
