"""Micro-batches: memory that runs out above a size, in the policy, the decoder, a reward and the update."""

import logging
from dataclasses import replace

import pytest
import torch

from _toy import Brightness, Redness, ToyTraining, same, toy_config, weights
from pave_core.batches import Batches, explained, is_out_of_memory
from pave_core.config.memory import MemoryConfig
from pave_core.errors import ConfigError, TrainingError
from pave_core.evaluation.evaluate import evaluate
from pave_core.evaluation.reward_check import check_reward
from pave_core.rollout.run_batches import RunBatches
from pave_core.scoring.mix import RewardMix

ERRORS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB)"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


class Fits:
    """Doubles numbers, at most `most` at once; `sizes` are those of the calls, `tries` also of those that failed."""

    def __init__(self, most, error=ERRORS[0]):
        self.most, self.error = most, error
        self.sizes, self.tries = [], []

    def __call__(self, x, *others):
        self.tries.append(len(x))
        if len(x) > self.most:
            raise self.error
        self.sizes.append(len(x))
        return 2 * x


def wrapped(fit, compute):
    """`compute`, of which the first argument may have at most fit.most items."""

    def call(x, *others):
        fit(x)
        return compute(x, *others)

    return call


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_a_part_that_does_not_fit_is_halved_and_the_size_is_kept(error, caplog):
    fit, freed = Fits(3, error), []
    batches = Batches(16, what="images", free=lambda: freed.append(list(fit.tries)))
    x = torch.arange(20.0)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(batches.map(fit, x), 2 * x)
    assert fit.tries == [10, 5, *[2] * 10]
    assert freed == [[10], [10, 5]]
    assert caplog.messages == [
        f"Pave-GRPO: memory ran out with {n} images: {n // 2} at a time from here on" for n in (10, 5)
    ]
    fit.tries.clear()
    batches.map(fit, x[:3])
    assert fit.tries == [2, 1]
    assert batches.size == 2


@pytest.mark.parametrize(("items", "size", "sizes"), [(13, 6, [5, 4, 4]), (12, 6, [6, 6]), (7, 6, [4, 3]), (3, 6, [3])])
def test_a_batch_is_cut_into_as_few_even_parts_as_there_can_be(items, size, sizes):
    fit = Fits(size)
    x = torch.arange(float(items))
    assert torch.equal(Batches(size).map(fit, x), 2 * x)
    assert fit.tries == sizes


def test_fewer_items_than_the_size_are_halved_by_their_number():
    fit = Fits(2)
    batches = Batches(1000)
    assert torch.equal(batches.map(fit, torch.ones(5)), 2 * torch.ones(5))
    assert fit.tries == [5, 2, 2, 1]


def test_all_items_are_cut_at_the_same_places():
    seen = []

    def compute(x, texts):
        seen.append("".join(texts))
        return x

    x = torch.arange(5.0).view(5, 1)
    assert torch.equal(Batches(2).map(compute, x, "abcde"), x)
    assert seen == ["ab", "cd", "e"]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_one_that_does_not_fit_is_an_error_with_the_remedy(error):
    fit = Fits(0, error)
    with pytest.raises(TrainingError, match=r"^memory ran out in one of the images: buy a card \(") as raised:
        Batches(4, what="images", remedy="buy a card").map(fit, torch.ones(4))
    assert fit.tries == [4, 2, 1]
    assert raised.value.__cause__ is error
    assert not is_out_of_memory(raised.value), "it would be halved again further out"


@pytest.mark.parametrize("error", [RuntimeError("a size does not match"), ConfigError("out of memory"), KeyError(1)])
def test_other_errors_pass(error):
    fit = Fits(0, error)
    with pytest.raises(type(error)) as raised:
        Batches(4).map(fit, torch.ones(4))
    assert raised.value is error
    assert fit.tries == [4]
    with pytest.raises(type(error)) as raised, explained("the update", "x"):
        raise error
    assert raised.value is error


def test_what_the_failed_call_held_is_free_before_the_retry():
    class Held(torch.Tensor):
        alive = 0

        def __del__(self):
            Held.alive -= 1

    counts = []

    def compute(x):
        held = torch.ones(1).as_subclass(Held)
        Held.alive += 1
        if len(x) > 1:
            raise ERRORS[0].__class__(f"out of memory with {held.item()}")
        return x

    Batches(4, free=lambda: counts.append(Held.alive)).map(compute, torch.ones(4))
    assert counts == [0, 0]


class Limited:
    """A reward that takes at most fit.most images at once."""

    def __init__(self, fit, reward):
        self._fit, self._reward, self.name = fit, reward, reward.name

    def __call__(self, images, prompts):
        self._fit(images)
        return self._reward(images, prompts)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_a_run_that_runs_out_of_memory_everywhere_learns_the_same(size):
    """Rollouts, the decoder and both rewards take at most `size` at once; losses, scores and weights are those of a run
    with all the memory.
    """
    config = replace(toy_config(batch_size=64), memory=MemoryConfig(decode_batch=64))
    fits = [Fits(size) for _ in range(4)]
    whole = ToyTraining(config, RewardMix((Brightness(), Redness()), (1.0, 0.5)))
    small = ToyTraining(config, RewardMix((Limited(fits[0], Brightness()), Limited(fits[1], Redness())), (1.0, 0.5)))
    small.decoder.decode = wrapped(fits[2], small.decoder.decode)
    velocity = small.policy.velocity
    limited = wrapped(fits[3], velocity)
    small.policy.velocity = lambda *inputs: (velocity if torch.is_grad_enabled() else limited)(*inputs)

    records = [list(run.stream()) for run in (whole, small)]

    for name in ("loss", "reward_mean", "anchor_reward", "grad_norm"):
        values = [[getattr(record, name) for record in of_run] for of_run in records]
        assert values[1] == pytest.approx(values[0], rel=1e-5, abs=1e-5)
    after = weights(small.policy)
    for name, value in weights(whole.policy).items():
        torch.testing.assert_close(after[name], value, atol=1e-6, rtol=1e-5)
    for fit in fits:
        failed = [n for n in fit.tries if n > size]
        assert failed
        assert sorted(set(failed), reverse=True) == failed, "a size that had failed was tried again"


def test_the_images_are_the_same_whatever_the_split():
    runs = [ToyTraining(toy_config(batch_size=n)) for n in (1, 5, 64)]
    found = [
        evaluate(
            run.policy,
            run.decoder,
            reward=run.reward,
            conds=run.conds,
            seeds=(1, 2, 3, 4, 5, 6, 7),
            config=run.config.rollout,
            batches=RunBatches.of(run.config.rollout, MemoryConfig(decode_batch=n)),
        )
        for run, n in zip(runs, (1, 3, 256), strict=True)
    ]
    for other in found[1:]:
        # A level of 255: the order in which a batch is added up can round a pixel to the next one.
        torch.testing.assert_close(other.images.int(), found[0].images.int(), atol=1, rtol=0)
        differ = (other.images != found[0].images).float().mean()
        assert differ < 0.01


def test_evaluation_and_reward_check_use_the_run_s_sizes():
    run = ToyTraining(toy_config(batch_size=8))
    fit = Fits(3)
    run.decoder.decode = wrapped(fit, run.decoder.decode)
    batches = RunBatches.of(run.config.rollout, MemoryConfig(decode_batch=8))
    shared = {"reward": run.reward, "conds": run.conds, "batches": batches}
    evaluate(run.policy, run.decoder, **shared, seeds=range(1, 9), config=run.config.rollout)
    assert fit.tries[:3] == [8, 4, 2]
    check_reward(run.policy, run.decoder, **shared, config=run.config)
    assert set(fit.tries[3:]) == {2}
    list(ToyTraining.stream(run))
    assert max(fit.tries[3:]) == 4, "a stream without the run's sizes begins with those of its settings"


def test_memory_that_runs_out_in_the_update_names_settings_and_keeps_the_state():
    run = ToyTraining(toy_config(iterations=3))
    stream = run.stream()
    next(stream)
    before = weights(run.policy)
    velocity = run.policy.velocity

    def grad(x, *others):
        if torch.is_grad_enabled():
            raise ERRORS[0]
        return velocity(x, *others)

    run.policy.velocity = grad
    with pytest.raises(
        TrainingError,
        match=r"^memory ran out in one of the branch steps in the update: .*checkpointing.*rank.*width.*offload.*fp8",
    ):
        next(stream)
    assert same(weights(run.policy), before)
    assert run.state.step == 1
