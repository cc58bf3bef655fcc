"""How long calls take, where memory may run out in them."""

import pytest
import torch

from pave_core.memory.calls import Seconds, measure_call


@pytest.mark.parametrize("most", [4, 3, 1, 0])
def test_calls_that_do_not_fit_are_left_out(most):
    """A call of batch_size latents, and one of a single latent."""
    weight = torch.nn.Parameter(torch.ones(()))

    def call(n):
        if n > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return weight * torch.ones(n, 4)

    found = measure_call(call, [weight], batch_size=4, again=False)
    assert (found is None) == (most == 0)
    assert weight.grad is None
    assert found is None or found.seconds.latents == (4 if most == 4 else 1)
    assert most == 4 or found is None or found.seconds.sampling == found.seconds.forward


def test_other_errors_are_not_taken_for_it():
    weight = torch.nn.Parameter(torch.ones(()))
    weight.grad = torch.ones(())

    def call(n):
        raise RuntimeError("a layer is missing")

    with pytest.raises(RuntimeError, match="a layer is missing"):
        measure_call(call, [weight], batch_size=4, again=False)
    assert weight.grad == 1


def test_a_latent_among_others_takes_its_share():
    """A call of n takes 0.1 n for n = 1 and 0.06 n for n = 4: 0.0533 + 0.0467 n."""
    of = Seconds(sampling=0.06, forward=0.1, backward=0.2, latents=4)
    assert of.share(1) == pytest.approx(1.0)
    assert of.share(4) == pytest.approx(0.6)
    assert of.share(8) == pytest.approx((0.16 / 3 / 8 + 0.14 / 3) / 0.1)
    assert Seconds(sampling=0.2, forward=0.1, backward=0.2, latents=4).share(8) == 1.0  # slower together: none fixed
    assert Seconds(sampling=0.1, forward=0.1, backward=0.2).share(8) == 1.0
