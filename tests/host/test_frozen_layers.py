"""Base layers whose weights are cast, dequantised or copied at each call: their gradient, and what is kept of them."""

import pytest
import torch
from torch.nn import functional

F8 = (torch.float8_e4m3fn, torch.float8_e5m2)


@pytest.fixture
def frozen(modules):
    """frozen(layer) -> a function that calls it as the policy does."""
    return lambda layer: modules.layers.frozen_linear(layer, layer.forward)


def filled(layer, weight, bias):
    """`layer` of the host with these values, made under inference mode."""
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    layer.bias = torch.nn.Parameter(bias, requires_grad=False)
    return layer


def plain(host, pack):
    import comfy.ops

    return comfy.ops.disable_weight_init.Linear(8, 6), lambda w: w


def cast(host, pack):
    import comfy.ops

    return comfy.ops.manual_cast.Linear(8, 6), lambda w: w.to(torch.float8_e4m3fn)


def patched(host, pack):
    """As a model that is loaded in part has it: the patch of a LoRA is added at each call."""
    import comfy.ops

    layer = comfy.ops.manual_cast.Linear(8, 6)
    layer.weight_function = [lambda w: 2 * w + 1]
    return layer, lambda w: w.to(torch.bfloat16)


def from_torch(host, pack):
    return torch.nn.Linear(8, 6), lambda w: w


@pytest.mark.parametrize("make", [plain, cast, patched, from_torch])
def test_the_output_is_the_layers_own_and_the_gradient_that_of_its_weight(frozen, host, pack, make):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 8, generator=generator).requires_grad_()
    with torch.inference_mode():
        layer, stored = make(host, pack)
        filled(layer, stored(torch.randn(6, 8, generator=generator)), torch.randn(6, generator=generator))
        expected = layer(x)
        effective = layer(torch.eye(8)) - layer(torch.zeros(8, 8))  # W^T
    if make in (plain, from_torch):  # such weights are taken as they are: Tracked makes them normal tensors
        layer.weight, layer.bias = (torch.nn.Parameter(p.clone(), requires_grad=False) for p in layer.parameters())
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = frozen(layer)(x)
    assert not kept
    assert torch.equal(y.detach(), expected.clone())
    g = torch.randn(y.shape, generator=generator)
    (found,) = torch.autograd.grad(y, x, g)
    torch.testing.assert_close(found, g @ effective.t().clone())


def test_scaled_fp8_of_older_hosts_has_its_scale_in_the_gradient(frozen, host, pack):
    import comfy.ops

    if not hasattr(comfy.ops, "scaled_fp8_ops"):
        pytest.skip("newer hosts load such files as quantised tensors")
    x = torch.randn(2, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    layer = filled(comfy.ops.scaled_fp8_ops().Linear(8, 6), weight.to(torch.float8_e4m3fn), torch.zeros(6))
    layer.scale_weight = torch.nn.Parameter(torch.tensor(0.25), requires_grad=False)
    (found,) = torch.autograd.grad(frozen(layer)(x).sum(), x)
    expected = functional.linear(torch.ones(2, 6), (0.25 * weight.to(torch.float8_e4m3fn).float()).t())
    torch.testing.assert_close(found, expected)


def kept_by(policy):
    """{address: bytes} of what autograd keeps of one velocity."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    cond = policy.encode("a red circle on a dark background")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        policy.velocity(torch.zeros(1, *policy.latent_shape), torch.tensor([0.8]), [cond])
    return kept


def test_an_fp8_base_keeps_what_an_fp32_base_keeps(make_policy, modules, stock):
    """Dequantised copies of the weights would be most of it. Weights that are used as they are cost nothing."""
    name = modules.tiny.DIFFUSION_MODEL.name
    (quantised,) = stock.call("UNETLoader", unet_name=name, weight_dtype="fp8_e4m3fn")
    found = {}
    for kind, model in (("fp32", stock.model), ("fp8", quantised)):
        with make_policy(model, rank=4) as policy:
            weights = {p.untyped_storage().data_ptr(): p for p in policy._patcher.model.diffusion_model.parameters()}
            kept = kept_by(policy)
            found[kind] = sum(size for address, size in kept.items() if address not in weights)
            matrices = [p for p in weights.values() if p.ndim == 2 and not p.requires_grad]
            assert kind == "fp32" or not any(p.untyped_storage().data_ptr() in kept for p in matrices)
    assert found["fp8"] < 1.05 * found["fp32"]


def test_attributes_of_the_host_on_its_parameters_are_seen_and_survive(make_policy, train_briefly, stock):
    parameters = dict(stock.model.model.diffusion_model.named_parameters())
    for p in parameters.values():
        p._model_dtype = torch.bfloat16
    with make_policy() as policy:
        train_briefly(policy)
        ours = dict(policy._patcher.model.diffusion_model.named_parameters())
        assert all(p._model_dtype == torch.bfloat16 for name, p in ours.items() if ".lora_" not in name)
    after = dict(stock.model.model.diffusion_model.named_parameters())
    assert all(after[name] is p for name, p in parameters.items())
    for p in parameters.values():
        del p._model_dtype


def test_a_cast_buffer_that_layers_share_does_not_spoil_the_gradient(make_policy, stock, monkeypatch):
    """Newer hosts copy the weights of offloaded layers into one buffer, each after the other."""
    import comfy.ops

    with make_policy(targets="all linear") as policy:
        expected = gradient(policy)
    cast_bias_weight, buffer = comfy.ops.cast_bias_weight, torch.empty(4_000_000)

    def shared(layer, *args, **kwargs):
        weight, *rest = cast_bias_weight(layer, *args, **kwargs)
        place = buffer[: weight.numel()].view_as(weight)
        place.copy_(weight)
        return (place, *rest)

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", shared)
    model = stock.model.clone()
    layers = [m for m in model.model.diffusion_model.modules() if hasattr(m, "comfy_cast_weights")]
    for layer in layers:
        layer.comfy_cast_weights = True
    try:
        with make_policy(model, targets="all linear") as policy:
            found = gradient(policy)
    finally:
        for layer in layers:
            del layer.comfy_cast_weights
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, rtol=1e-5, atol=1e-6)


def gradient(policy):
    cond, x = policy.encode("a red circle on a dark background"), torch.ones(1, *policy.latent_shape)
    for name, p in policy.parameters().items():
        with torch.no_grad():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))) * 0.05)
    y = policy.velocity(x, torch.tensor([0.8]), [cond])
    policy.velocity(-x, torch.tensor([0.4]), [cond])  # the buffer is used again before the backward pass
    y.square().mean().backward()
    return {name: p.grad for name, p in policy.parameters().items()}
