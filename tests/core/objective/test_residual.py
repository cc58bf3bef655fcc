"""What the finer steps are held against: the image, or the noise that it was drawn with."""

import pytest
import torch

from pave_core.config.objective import PaveConfig
from pave_core.flow.paving import CoarseStep, paved_transitions
from pave_core.flow.schedule import shifted_sigmas
from pave_core.objective.loss import decomposition_loss, log_probs

N, G, SHAPE, SEGMENTS = 3, 4, (3, 2, 2), (2, 3)


def randn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def paved(W, x):
    """{n: p^(n)} of v = tanh(x W + sigma) on the second of 4 steps, from x (N, *S)."""

    def velocity(x, sigma, conds):
        channels = torch.einsum("nchw,cd->ndhw", x, W)
        return torch.tanh(channels + sigma.to(x).view(-1, 1, 1, 1))

    steps = [CoarseStep(x, 1, [None] * len(x))]
    (transitions,) = paved_transitions(velocity, steps, sigmas=shifted_sigmas(4, 3.0), eta=0.8, segments=SEGMENTS)
    return transitions


@pytest.fixture
def situation():
    """(W, x (N, *S), noise (N, G, *S), advantages (N, G))"""
    x, noise = randn(N, *SHAPE, seed=0), randn(N, G, *SHAPE, seed=1)
    return 0.5 * randn(3, 3, seed=2), x, noise, randn(N, G, seed=3)


def gradient(situation, residual):
    W, x, noise, advantages = situation
    leaf = W.clone().requires_grad_()
    p = paved(leaf, x)
    y = (p[1].mean.unsqueeze(1) + p[1].std * noise).detach()
    losses, _ = decomposition_loss(p, y, advantages, config=PaveConfig(segments=SEGMENTS, residual=residual))
    return torch.autograd.grad(losses.sum(), leaf)[0]


def pulled(situation, errors):
    """The gradient of - 1/G sum_i A_i e_i mean_n / (std_n^2 D), with errors(p, n) (N, G, *S)."""
    W, x, _, advantages = situation
    leaf = W.clone().requires_grad_()
    p = paved(leaf, x)
    weights = advantages.view(N, G, 1, 1, 1)
    terms = {
        n: -(weights * errors(p, n).detach() * p[n].mean.unsqueeze(1)).sum() / (G * p[n].std ** 2 * x[0].numel())
        for n in p
    }
    return torch.autograd.grad(terms[1] + (terms[2] + terms[3]) / 2, leaf)[0]


def test_the_gradient_is_that_of_the_noise_that_was_drawn(situation):
    noise = situation[2]
    torch.testing.assert_close(gradient(situation, "noise"), pulled(situation, lambda p, n: p[1].std * noise))


def test_of_the_image_it_is_that_and_of_the_gap_between_the_means(situation):
    gap = pulled(situation, lambda p, n: (p[1].mean - p[n].mean).unsqueeze(1).expand(-1, G, -1, -1, -1))
    image, noise = (gradient(situation, residual) for residual in ("image", "noise"))
    torch.testing.assert_close(image, noise + gap)
    assert gap.norm() > 0.1 * noise.norm()


def test_advantages_that_sum_to_zero_make_both_the_same(situation):
    W, x, noise, advantages = situation
    centred = (W, x, noise, advantages - advantages.mean(1, keepdim=True))
    torch.testing.assert_close(gradient(centred, "noise"), gradient(centred, "image"))


def test_how_likely_a_chain_finds_the_images_is_said_of_them_where_they_are(situation):
    W, x, noise, advantages = situation
    p = paved(W, x)
    y = p[1].mean.unsqueeze(1) + p[1].std * noise
    for residual in ("image", "noise"):
        config = PaveConfig(segments=SEGMENTS, residual=residual)
        _, metrics = decomposition_loss(p, y, advantages, config=config)
        log_prob = metrics.view(N, len(p), -1)[..., 0]
        for place, p_n in enumerate(p.values()):
            torch.testing.assert_close(log_prob[:, place], log_probs(p_n, y).mean(1))
