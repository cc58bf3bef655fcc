"""Networks that write into tensors which autograd has saved (`img += ...`): they train, with the right gradient, and
as the host computes them.
"""

import pytest
import torch

import _tiny_architectures
from _gradients import check_gradient

PROMPT = "a red circle on a dark background"
STEPS = 4


@pytest.fixture(params=["flux", "chroma"])
def model(request, host, pack):
    return getattr(_tiny_architectures, request.param)()


def start(policy):
    return torch.randn(1, *policy.latent_shape, generator=torch.Generator().manual_seed(1))


def test_a_rollout_is_what_ksampler_draws(make_policy, draw, stock, model):
    (positive,) = stock.call("CLIPTextEncode", text=PROMPT, clip=stock.clip)
    expected = stock.sample(model, positive, seed=1, steps=STEPS)
    assert expected.abs().max() > 0.1
    with make_policy(model) as policy:
        torch.testing.assert_close(draw(policy, seed=1), expected.clone(), atol=2e-4, rtol=1e-4)


def test_two_steps_train(make_policy, train_briefly, model):
    with torch.inference_mode(), make_policy(model) as policy:  # as nodes run
        records = train_briefly(policy)
        moved = [p.abs().max().item() > 0 for name, p in policy.parameters().items() if name.endswith("lora_B.weight")]
    assert [record.skipped for record in records] == [False, False]
    assert all(record.grad_norm > 0 for record in records)
    assert all(moved)


@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_the_gradient_is_that_of_finite_differences(make_policy, model, cfg):
    generator = torch.Generator().manual_seed(2)
    with make_policy(model, targets="all linear", cfg=cfg) as policy:
        sigmas = policy.sigmas(STEPS)
        cond, x = policy.encode(PROMPT), start(policy)
        weight = torch.randn(x.shape, generator=generator)
        parameters = list(policy.parameters().values())
        with torch.no_grad():
            for p in parameters:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.1)

        def value():
            y = x + (sigmas[1] - sigmas[0]) * policy.velocity(x, torch.tensor([sigmas[0]]), [cond])
            return (weight * policy.velocity(y, torch.tensor([sigmas[1]]), [cond])).mean()

        check_gradient(value, parameters)


def test_with_gradients_it_computes_the_bits_that_it_computes_without(make_policy, model):
    with make_policy(model, targets="all linear") as policy:
        cond, x, sigma = policy.encode(PROMPT), start(policy), torch.tensor([0.8])
        with torch.no_grad():
            for name, p in policy.parameters().items():
                p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1)
            without = policy.velocity(x, sigma, [cond])
        with_gradients = policy.velocity(x, sigma, [cond])
    assert with_gradients.requires_grad
    assert torch.equal(with_gradients, without)


def test_nothing_of_it_is_left_behind(make_policy, model):
    before = {
        name: getattr(torch.Tensor, name) for name in ("__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__")
    }
    with make_policy(model) as policy:
        policy.velocity(start(policy), torch.tensor([0.8]), [policy.encode(PROMPT)])

        def fails(*_):
            assert torch.Tensor.__iadd__ is not before["__iadd__"], (
                "out_of_place is off while the network runs: this test shows nothing"
            )
            raise RuntimeError("in the middle")

        policy._patcher.set_model_sampler_post_cfg_function(fails)
        cond = policy.encode(PROMPT)
        with pytest.raises(RuntimeError, match="in the middle"):
            policy.velocity(start(policy), torch.tensor([0.8]), [cond])
    assert all(getattr(torch.Tensor, name) is method for name, method in before.items())
    x = torch.ones(2)
    same = x
    x += 1
    assert same is x


def test_only_augmented_assignment_in_this_thread_and_with_gradients_is_changed(modules):
    import threading

    x, y, z, w = (torch.ones(2, dtype=torch.bfloat16) for _ in range(4))
    kept = x, y, z, w

    def elsewhere():
        nonlocal w
        w += 1

    with modules.writes.out_of_place():
        x += torch.full((2,), 1e-3)  # fp32
        y.add_(1)
        with torch.no_grad():
            z += 1
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert x is not kept[0]
    assert x.dtype == torch.bfloat16
    assert kept[0].tolist() == [1.0, 1.0]
    assert kept[1].tolist() == [2.0, 2.0]
    assert z is kept[2]
    assert w is kept[3]
