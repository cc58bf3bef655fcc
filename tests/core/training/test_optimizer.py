"""Learning rates against torch's schedulers, and the clipped step."""

import math

import pytest
import torch

from pave_core.config.optimizer import OptimConfig
from pave_core.training.optimizer import clip_and_step, learning_rate, make_optimizer


def test_warm_up_rises_to_the_rate():
    config = OptimConfig(learning_rate=1.0, warmup_steps=3)
    assert [learning_rate(config, step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("warmup", [0, 2])
def test_cosine_and_linear_fall_to_zero_at_decay_steps(warmup):
    """Against torch's own schedulers, shifted by the warm-up."""
    from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR

    schedulers = {"cosine": lambda o, n: CosineAnnealingLR(o, n), "linear": lambda o, n: LinearLR(o, 1.0, 0.0, n)}
    for name, make in schedulers.items():
        config = OptimConfig(learning_rate=0.4, schedule=name, warmup_steps=warmup, decay_steps=10)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
        scheduler = make(optimizer, 10 - warmup)
        expected = []
        for _ in range(10 - warmup):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        assert [learning_rate(config, step) for step in range(warmup, 10)] == pytest.approx(expected, abs=1e-12)
        assert learning_rate(config, 10) == learning_rate(config, 99) == 0.0


def stepped(gradient, max_grad_norm=1.0):
    """(norm, weights) of one step of plain gradient descent at rate 0.5 from zero."""
    config = OptimConfig(optimizer="SGD", betas=(0.0, 0.999), weight_decay=0.0, max_grad_norm=max_grad_norm)
    p = torch.nn.Parameter(torch.zeros(2))
    optimizer = make_optimizer([p], config)
    p.grad = torch.tensor(gradient)
    norm = clip_and_step(optimizer, config, 0.5)
    assert p.grad is None
    return norm, p.detach()


def test_gradients_are_clipped_to_the_norm_and_the_norm_before_is_told():
    norm, p = stepped([3.0, 4.0], max_grad_norm=1.0)
    assert norm == 5.0
    torch.testing.assert_close(p, torch.tensor([-0.3, -0.4]))
    norm, p = stepped([3.0, 4.0], max_grad_norm=10.0)
    torch.testing.assert_close(p, torch.tensor([-1.5, -2.0]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_leaves_the_weights(bad):
    norm, p = stepped([1.0, bad])
    assert not math.isfinite(norm)
    assert p.tolist() == [0.0, 0.0]
