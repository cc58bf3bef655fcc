"""The state of a run: copies, what it lends, and what it refuses."""

from dataclasses import replace

import pytest
import torch

from _toy import ToyTraining, same, toy_config, weights, without_clock
from pave_core.config.adapter import LoraConfig
from pave_core.errors import ConfigError


def test_a_checkpoint_is_a_copy():
    run = ToyTraining(toy_config(iterations=2))
    stream = run.stream()
    next(stream)
    checkpoint = run.state.capture({})
    before = {name: value.clone() for name, value in (checkpoint.adapter | checkpoint.optimizer).items()}
    next(stream)
    assert same(checkpoint.adapter | checkpoint.optimizer, before)


@pytest.mark.parametrize(
    "lora", [LoraConfig(rank=3, alpha=4, targets="all linear"), LoraConfig(rank=2, alpha=4, targets="attention")]
)
def test_the_checkpoint_of_another_adapter_is_refused_and_changes_nothing(lora):
    run, other = ToyTraining(), ToyTraining(replace(toy_config(), lora=lora))
    next(other.stream())
    before = weights(run.policy)
    with pytest.raises(ConfigError, match="^resume: the checkpoint's adapter has other layers or ranks"):
        run.state.restore(other.state.capture({}))
    assert same(weights(run.policy), before)
    assert run.state.step == 0


def test_return_to_takes_weights_and_moments_and_goes_on_counting():
    run = ToyTraining(toy_config(iterations=3))
    stream = run.stream()
    next(stream)
    early = run.state.capture({})
    next(stream)
    counters = run.state.capture({}).counters
    run.state.return_to(early)
    late = run.state.capture({})
    assert same(late.adapter, early.adapter)
    assert same(late.optimizer, early.optimizer)
    assert (late.step, late.counters) == (2, counters)


class CancelledError(Exception):
    """Comes out of the middle of what is done with an earlier state."""


@pytest.mark.parametrize("fails", [False, True])
def test_showing_lends_an_earlier_state_s_weights_and_the_run_goes_on_bit_for_bit(fails):
    config = toy_config(iterations=4)
    whole, run = ToyTraining(config), ToyTraining(config)
    records = without_clock(list(whole.stream()))
    stream = run.stream()
    next(stream)
    early = run.state.capture({})
    next(stream)
    late = run.state.capture({})
    try:
        with run.state.showing(early):
            assert same(weights(run.policy), early.adapter)
            torch.nn.init.zeros_(next(iter(run.policy.parameters().values())))
            if fails:
                raise CancelledError
    except CancelledError:
        assert fails
    after = run.state.capture({})
    assert same(after.adapter, late.adapter)
    assert same(after.optimizer, late.optimizer)
    assert (after.step, after.counters) == (late.step, late.counters)
    assert without_clock(list(stream)) == records[2:]
    assert same(weights(run.policy), weights(whole.policy))


def test_an_error_inside_showing_comes_out():
    run = ToyTraining()
    with pytest.raises(CancelledError), run.state.showing(run.state.capture({})):
        raise CancelledError


def test_each_halving_halves_the_rate():
    run = ToyTraining()
    full = run.config.optim.learning_rate
    rates = []
    for run.state.halvings in range(4):
        rates.append(run.state.rate(run.config.optim, 0))
    assert rates == [full, full / 2, full / 4, full / 8]
