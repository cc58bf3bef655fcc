"""Paved transitions, against chains written out by hand."""

import math
from typing import get_args

import pytest
import torch

from _flow import SHAPE, linear_velocity, randn
from pave_core.config.objective import Variance
from pave_core.config.rollout import Kernel
from pave_core.flow.kernels import transition
from pave_core.flow.paving import CoarseStep, paved_transitions
from pave_core.flow.schedule import shifted_sigmas

SIGMAS = shifted_sigmas(8, 3.0)


def paved(velocity, x, k, *, segments, sigmas=SIGMAS, **options):
    """{n: p^(n)} of a single coarse step."""
    (p,) = paved_transitions(
        velocity, [CoarseStep(x, k, [None] * len(x))], sigmas=sigmas, eta=0.8, segments=segments, **options
    )
    return p


def prompted_velocity(W):
    """v(x, sigma) = tanh(x W + sigma cond), each item with a conditioning of its own."""
    return lambda x, sigma, conds: torch.tanh(x @ W + sigma.view(-1, 1, 1) * torch.stack(list(conds)))


def doubles(*shape, seed):
    return randn(*shape, seed=seed, dtype=torch.float64)


def several_steps():
    """Coarse steps of two prompts: with one x_k for all images, and with one each."""
    prompts = [doubles(*SHAPE, seed=seed) for seed in (10, 11)]
    sizes, ks = (1, 1, 3, 2), (0, 3, 3, 6)
    return [
        CoarseStep(doubles(size, *SHAPE, seed=i), k, [prompts[i % 2]] * size)
        for i, (size, k) in enumerate(zip(sizes, ks, strict=True))
    ]


@pytest.mark.parametrize("sigma_0", [1.0, 0.9997, 0.995])
def test_a_schedule_that_begins_just_below_one_is_not_destroyed(sigma_0):
    sigmas = (sigma_0, *shifted_sigmas(16, 3.0)[1:])
    x = randn(1, *SHAPE)
    for variance in get_args(Variance):
        p = paved(lambda x, *_: torch.zeros_like(x), x, 0, sigmas=sigmas, segments=(2, 3), variance=variance)
        assert all(0.4 < q.std < 0.82 for q in p.values())  # eta, or a little less where the first step is shorter
        assert p[1].mean.norm() < x.norm()


@pytest.mark.parametrize("variance", get_args(Variance))
@pytest.mark.parametrize("kernel", get_args(Kernel))
def test_p1_is_the_plain_step_whatever_the_segments(kernel, variance):
    x, velocity = randn(1, *SHAPE), linear_velocity(torch.eye(3) * 0.3)
    options = {"kernel": kernel, "variance": variance}
    plain = paved(velocity, x, 2, segments=(), **options)
    decomposed = paved(velocity, x, 2, segments=(2, 5), **options)
    v = velocity(x, torch.tensor([SIGMAS[2]]), [None])
    expected = transition(x, v, sigma=SIGMAS[2], sigma_next=SIGMAS[3], eta=0.8, sigma_ceiling=SIGMAS[1], kernel=kernel)
    assert list(plain) == [1]
    assert torch.equal(plain[1].mean, expected.mean)
    assert torch.equal(decomposed[1].mean, expected.mean)
    assert plain[1].std == decomposed[1].std == expected.std


@pytest.mark.parametrize("kernel", get_args(Kernel))
def test_many_steps_at_once_are_chains_one_by_one(kernel):
    """n - 1 Euler steps and then the transition, written out for each image of each step by itself, in double."""
    velocity, steps = prompted_velocity(doubles(3, 3, seed=4)), several_steps()
    found = paved_transitions(velocity, steps, sigmas=SIGMAS, eta=0.8, segments=(2, 3, 5), kernel=kernel)
    for step, p in zip(steps, found, strict=True):
        assert list(p) == [1, 2, 3, 5]
        start, end = SIGMAS[step.k : step.k + 2]
        for n, q in p.items():
            at = torch.linspace(start, end, n + 1, dtype=torch.float64).tolist()
            assert q.mean.shape == step.x.shape
            for image in range(len(step.x)):
                x = step.x[image : image + 1]
                for s, s_next in zip(at[:-2], at[1:-1], strict=True):
                    x = x + (s_next - s) * velocity(x, x.new_tensor([s]), [step.conds[0]])
                v = velocity(x, x.new_tensor(at[-2:-1]), [step.conds[0]])
                ceiling = at[1] if step.k == 0 else SIGMAS[1]
                expected = transition(x, v, sigma=at[-2], sigma_next=end, eta=0.8, sigma_ceiling=ceiling, kernel=kernel)
                torch.testing.assert_close(q.mean[image : image + 1], expected.mean, rtol=1e-12, atol=1e-12)
                assert q.std == pytest.approx(expected.std, rel=1e-12)


def test_network_calls_are_max_s_and_evaluations_one_plus_sum_whatever_the_steps():
    batches = []

    def velocity(x, sigma, conds):
        assert sigma.shape == (len(x),)
        assert len(conds) == len(x)
        batches.append(len(x))
        return x * 0.1

    paved(velocity, randn(1, *SHAPE), 1, segments=(2, 3, 5))
    assert batches == [1, 3, 2, 1, 1]
    batches.clear()
    images = sum(len(step.x) for step in several_steps())
    paved_transitions(velocity, several_steps(), sigmas=SIGMAS, eta=0.8, segments=(2, 3, 5))
    assert batches == [images * n for n in (1, 3, 2, 1, 1)]
    batches.clear()
    paved(velocity, randn(1, *SHAPE), 1, segments=())
    assert batches == [1]


def test_chains_and_steps_do_not_feel_each_other():
    """They share network calls; the gradient of each is its own prompt's."""
    velocity, x = prompted_velocity(doubles(3, 3, seed=4)), doubles(1, *SHAPE, seed=0)
    prompts = [doubles(*SHAPE, seed=seed).requires_grad_() for seed in (10, 11)]
    steps = [CoarseStep(x, 1, [cond]) for cond in prompts]
    together = paved_transitions(velocity, steps, sigmas=SIGMAS, eta=0.8, segments=(2, 3, 5))
    for n in (2, 3, 5):
        (alone,) = paved_transitions(velocity, steps[:1], sigmas=SIGMAS, eta=0.8, segments=(n,))
        torch.testing.assert_close(together[0][n].mean, alone[n].mean)
        assert together[0][n].std == alone[n].std
        own, other = torch.autograd.grad(together[0][n].mean.sum(), prompts, retain_graph=True)
        (expected,) = torch.autograd.grad(alone[n].mean.sum(), prompts[:1])
        torch.testing.assert_close(own, expected)
        assert other.abs().max() == 0


@pytest.mark.parametrize(("k", "ratios"), [(0, (1.01, 2.03)), (2, (2.61, 4.22)), (4, (2.36, 3.72)), (6, (2.29, 3.58))])
def test_the_noise_of_the_last_sub_step_is_smaller_than_that_of_the_whole(k, ratios):
    """The figures of the paper's grid that the docstring gives."""
    options = {"segments": (2, 3), "sigmas": shifted_sigmas(16, 3.0)}
    p = paved(lambda x, *_: x, randn(1, *SHAPE), k, **options)
    assert [p[1].std ** 2 / p[n].std ** 2 for n in (2, 3)] == pytest.approx(ratios, abs=0.006)


def test_matched_has_the_means_of_reference_and_the_plain_steps_noise():
    velocity, x = linear_velocity(randn(3, 3, seed=4)), randn(1, *SHAPE)
    reference = paved(velocity, x, 3, segments=(2, 3))
    matched = paved(velocity, x, 3, segments=(2, 3), variance="matched")
    assert all(torch.equal(matched[n].mean, reference[n].mean) for n in (1, 2, 3))
    assert {p.std for p in matched.values()} == {reference[1].std}
    assert reference[3].std < reference[2].std < reference[1].std


@pytest.mark.parametrize("k", [0, 3, 6])
def test_all_chains_of_cps_have_one_noise(k):
    """Whatever `variance` is: it comes from the sigma that they end at."""
    velocity, x = linear_velocity(randn(3, 3, seed=4)), randn(1, *SHAPE)
    for variance in get_args(Variance):
        p = paved(velocity, x, k, segments=(2, 3, 5), kernel="cps", variance=variance)
        assert {q.std for q in p.values()} == {SIGMAS[k + 1] * math.sin(0.8 * math.pi / 2)}


@pytest.mark.parametrize("kernel", get_args(Kernel))
def test_span_is_one_step_with_the_mean_velocity(kernel):
    """v_bar from where n Euler sub-steps lead: as if the network had given it for the whole step."""
    velocity, x = prompted_velocity(doubles(3, 3, seed=4)), doubles(2, *SHAPE, seed=0)
    step = CoarseStep(x, 3, [doubles(*SHAPE, seed=10)] * 2)
    options = {"sigmas": SIGMAS, "eta": 0.8, "kernel": kernel}
    (found,) = paved_transitions(velocity, [step], segments=(2, 4), variance="span", **options)
    for n in (2, 4):
        y, dt = x, (SIGMAS[4] - SIGMAS[3]) / n
        for j in range(n):
            y = y + dt * velocity(y, y.new_full((2,), SIGMAS[3] + j * dt), step.conds)
        v_bar = (y - x) / (SIGMAS[4] - SIGMAS[3])
        (plain,) = paved_transitions(lambda *_, v=v_bar: v, [step], segments=(), **options)
        torch.testing.assert_close(found[n].mean, plain[1].mean, rtol=1e-10, atol=1e-10)
        assert found[n].std == plain[1].std


def test_span_tends_to_the_exact_mean_velocity():
    """v = x, whose path is x exp(sigma - sigma_k); the plain step's error falls with n."""
    x, h = doubles(1, *SHAPE, seed=0), SIGMAS[4] - SIGMAS[3]
    exact = transition(
        x, x * (math.exp(h) - 1) / h, sigma=SIGMAS[3], sigma_next=SIGMAS[4], eta=0.8, sigma_ceiling=SIGMAS[1]
    )
    p = paved(lambda x, *_: x, x, 3, segments=(2, 4, 64), variance="span")
    errors = [(p[n].mean - exact.mean).norm() for n in (1, 2, 4, 64)]
    assert errors[1] / errors[0] == pytest.approx(1 / 2, rel=0.05)
    assert errors[2] / errors[0] == pytest.approx(1 / 4, rel=0.05)
    assert errors[3] < 0.02 * errors[0]
