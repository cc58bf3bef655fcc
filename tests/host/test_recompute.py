"""Blocks that are computed again for their gradient: the gradient, the memory, and what they must not lose."""

import dataclasses

import pytest
import torch

import _tiny_architectures

PROMPT = "a red circle on a dark background"


@dataclasses.dataclass
class Modulation:
    scale: torch.Tensor
    shift: torch.Tensor


@pytest.fixture
def recomputed(modules):
    return modules.recompute.Recomputed


def gradients(function, inputs, parameters):
    loss = sum((y * y).sum() for y in function(*inputs))
    return [*torch.autograd.grad(loss, [*(x for x in inputs if x.requires_grad), *parameters], allow_unused=True)]


def numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def test_tensors_in_tuples_dataclasses_and_parameters_get_their_gradient(recomputed):
    x, scale, shift, W = numbers(2, 3, seed=0), numbers(3, seed=1), numbers(3, seed=2), numbers(3, 3, seed=3)

    def block(x, modulation, positions, options=None):
        y = torch.tanh(x @ W * modulation.scale + modulation.shift) * positions[0]
        return y, None, y * 2

    def plain(x, scale, shift):
        return [y for y in block(x, Modulation(scale, shift), (shift, 3)) if y is not None]

    def again(x, scale, shift):
        outputs = recomputed(block, (W,))(x, Modulation(scale, shift), (shift, 3), options={"block": 1})
        assert outputs[1] is None
        return [y for y in outputs if y is not None]

    for ours, theirs in zip(gradients(again, (x, scale, shift), [W]), gradients(plain, (x, scale, shift), [W])):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


def test_a_function_that_overwrites_what_autograd_saved_gets_the_right_gradient(recomputed):
    """torch.utils.checkpoint gives a wrong one here, without an error."""
    x, W = numbers(2, 3, seed=0), numbers(3, 3, seed=1)

    def block(x):
        y = torch.exp(x @ W)  # autograd saves the result
        y.add_(x)
        x.mul_(2)  # the argument
        return [torch.sin(y) + x]

    def written_out(x):
        return [torch.sin(torch.exp(x @ W) + x) + 2 * x]

    before = x.detach().clone()
    function = recomputed(block, (W,))
    for _ in range(2):
        for ours, theirs in zip(gradients(function, (x,), [W]), gradients(written_out, (x,), [W])):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    assert function.overwrites
    assert torch.equal(x.detach(), before)  # its caller's tensor is not written to


def test_dictionaries_are_as_they_were_when_it_is_computed_again(recomputed):
    """Networks count their blocks in transformer_options, which all blocks share."""
    options = {"block": 0}
    x = numbers(3, seed=0)
    block = recomputed(lambda x, options: [x ** (options["block"] + 1)])
    ys = []
    for i in range(3):
        options["block"] = i
        ys += block(x, options)
    (found,) = torch.autograd.grad(sum(y.sum() for y in ys), x)
    torch.testing.assert_close(found, 1 + 2 * x.detach() + 3 * x.detach() ** 2)


def test_what_nothing_uses_gets_no_gradient(recomputed):
    x, W, unused = numbers(3, seed=0), numbers(3, 3, seed=1), numbers(3, 3, seed=2)
    y, _ = recomputed(lambda x: (W @ x, unused @ x), (W, unused))(x)
    assert torch.autograd.grad(y.sum(), [W, unused], allow_unused=True)[1] is None


def test_errors_inside_are_those_of_the_function(recomputed):
    def fails(x):
        raise ValueError("in the block")

    with pytest.raises(ValueError, match="in the block"):
        recomputed(fails)(numbers(3, seed=0))


def gradient_of(policy, cond, kept_bytes):
    """The gradient, and the bytes that autograd keeps for it besides the model's own weights."""
    x = torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
    network = policy._patcher.model.diffusion_model
    kept = kept_bytes(lambda: policy.velocity(x, torch.tensor([0.8]), [cond]), network)
    v = policy.velocity(x, torch.tensor([0.8]), [cond])  # a call of its own: where bytes are counted, versions are not
    for p in policy.parameters().values():
        p.grad = None
    (v * torch.linspace(-1, 1, v.numel()).view_as(v)).sum().backward()
    return {name: p.grad.clone() for name, p in policy.parameters().items()}, kept


def trained(policy):
    """Set the adapter to values of a trained one: B is not 0."""
    for name, p in policy.parameters().items():
        with torch.no_grad():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))) * 0.05)


@pytest.mark.parametrize("memory", [{"checkpointing": "on"}, {"recompute_chains": True, "checkpointing": "on"}])
@pytest.mark.parametrize("name", ["bundled", "FLUX dev", "Chroma"])
def test_checkpointing_changes_the_memory_and_not_the_gradient(make_policy, modules, name, memory):
    parts = {} if name == "bundled" else _tiny_architectures.build(name)._asdict()
    model, found = parts.pop("model", None), []
    kept_bytes = modules.measure.kept_bytes
    for settings in ({"checkpointing": "off"}, memory):
        with make_policy(model, **parts, memory=settings, targets="all linear", cfg=2.0) as policy:
            trained(policy)
            found.append(gradient_of(policy, policy.encode(PROMPT), kept_bytes))
    (plain, kept), (again, kept_again) = found
    assert kept_again < 0.6 * kept
    for key in plain:
        torch.testing.assert_close(again[key], plain[key], rtol=1e-5, atol=1e-5 * plain[key].abs().max().item())


def test_blocks_are_not_computed_again_where_hooks_rewrite_weights_between(make_policy, stock):
    """They would be computed with other weights than at first."""
    import comfy.hooks

    model = stock.model.clone()
    group = comfy.hooks.HookGroup()
    group.add(comfy.hooks.WeightHook())
    with make_policy(model, memory={"checkpointing": "on"}) as policy:
        assert policy._checkpoints()
        policy._patcher.hook_patches = {"a hook": {"diffusion_model.x_embedder.proj.weight": []}}
        assert not policy._checkpoints()
        policy._patcher.hook_patches = {}
