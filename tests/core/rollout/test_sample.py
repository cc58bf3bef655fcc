"""Rollouts in branches: the anchor, what leaves it, and how that is finished; against walks written out."""

import math

import pytest
import torch

from _by_hand import noisy, velocity, walked
from _toy import PROMPTS, ToyTraining, toy_config
from pave_core.batches import Batches
from pave_core.rollout.sample import sample_anchors, sample_rollouts
from pave_core.seeds import seeded


def sampled(run, prompts=PROMPTS[:1], config=None, batches=None, **settings):
    """Rollouts of `prompts`, each with the noise that its name gives."""
    return sample_rollouts(
        run.policy,
        prompts,
        conds=[run.conds[prompt] for prompt in prompts],
        config=config or toy_config(**settings).rollout,
        generators=[seeded(0, prompt) for prompt in prompts],
        batches=batches,
    )


def noise_of(prompt, K, G):
    """(that of the anchor (1, *S), of the branches (K, G, *S)) as sampled() draws it."""
    generator = seeded(0, prompt)
    return torch.randn(1, 3, 4, 4, generator=generator), torch.randn(K, G, 3, 4, 4, generator=generator)


def calls_of(run):
    """The items and the sigma of each network call of `run` from here on."""
    calls, velocity = [], run.policy.velocity

    def counted(x, sigma, conds):
        calls.append((len(x), sigma[0].item()))
        return velocity(x, sigma, conds)

    run.policy.velocity = counted
    return calls


def test_branches_leave_the_anchor_and_reach_the_end_by_the_ode():
    run = ToyTraining()
    config, cond = run.config.rollout, run.conds["a cat"]
    (rollout,) = sampled(run)
    sigmas = rollout.sigmas
    start, noise = noise_of("a cat", 2, 4)
    assert (rollout.prompt, rollout.branch_steps) == ("a cat", config.branch_steps)
    assert (rollout.starts.shape, rollout.branches.shape) == ((2, 1, 3, 4, 4), (2, 4, 3, 4, 4))
    assert rollout.finals.shape == (1, 2, 4, 3, 4, 4)
    assert rollout.images == config.images == 8
    torch.testing.assert_close(rollout.anchor_final, walked(run.policy, start, sigmas, cond))
    for place, k in enumerate(config.branch_steps):
        x = walked(run.policy, start, sigmas[: k + 1], cond)
        torch.testing.assert_close(rollout.starts[place], x)
        for i in range(4):
            y = noisy(run.policy, x, noise[place, i], k, sigmas=sigmas, eta=config.eta, cond=cond)
            torch.testing.assert_close(rollout.branches[place, i], y[0])
            end = walked(run.policy, rollout.branches[place, i][None], sigmas[k + 1 :], cond)
            torch.testing.assert_close(rollout.finals[0, place, i], end[0])
    assert rollout.branches.std(1).min() > 0


@pytest.mark.parametrize(
    ("kernel", "std"),
    [
        ("cps", lambda a, b: b * math.sin(0.4 * math.pi)),
        ("dance", lambda a, b: 0.8 * math.sqrt(a - b)),
    ],
)
def test_the_kernel_reaches_the_images(kernel, std):
    """Two branches differ by their noises' difference times the kernel's std."""
    run = ToyTraining()
    (rollout,) = sampled(run, kernel=kernel, eta=0.8)
    _, noise = noise_of("a cat", 2, 4)
    for place, k in enumerate((0, 2)):
        y = rollout.branches[place]
        expected = std(rollout.sigmas[k], rollout.sigmas[k + 1]) * (noise[place, 0] - noise[place, 1])
        torch.testing.assert_close(y[0] - y[1], expected, rtol=1e-4, atol=1e-5)


def test_without_noise_every_image_is_the_anchor():
    """The limit eta -> 0; 0.01 is the smallest, with a noise of up to 0.01 times that of a step."""
    (rollout,) = sampled(ToyTraining(), eta=0.01)
    distance = (rollout.finals - rollout.anchor_final).abs().max()
    (noisier,) = sampled(ToyTraining(), eta=0.1)
    assert distance < 0.1
    assert (noisier.finals - noisier.anchor_final).abs().max() / distance == pytest.approx(10, rel=0.3)


@pytest.mark.parametrize("tail_steps", [0, 3, 12])
def test_a_tail_of_second_order_on_any_number_of_steps(tail_steps):
    """Each step takes the velocity that a line through the last two velocities has in its middle."""
    run = ToyTraining()
    (rollout,) = sampled(run, branch_steps=(1, 3), tail_solver="multistep", tail_steps=tail_steps)
    sigmas, cond = rollout.sigmas, rollout.cond
    between = [(a + b) / 2 for a, b in zip(sigmas, sigmas[1:], strict=False)]
    twice = [sigma for pair in zip(sigmas, [*between, 0.0], strict=True) for sigma in pair][:-1]
    for place, k in enumerate((1, 3)):
        grid = {0: sigmas[k + 1 :], 3: sigmas[k + 1 :: 2], 12: twice[2 * k + 2 :]}[tail_steps]
        assert grid[-1] == 0
        x, before = rollout.branches[place, :1], None
        for i in range(len(grid) - 1):
            a, b = grid[i], grid[i + 1]
            v = velocity(run.policy, x, a, cond)
            in_the_middle = v if before is None else v + (v - before[0]) * ((b - a) / 2) / (a - before[1])
            x, before = x + (b - a) * in_the_middle, (v, a)
        torch.testing.assert_close(rollout.finals[0, place, :1], x)


def test_a_tail_of_second_order_is_nearer_the_exact_end():
    """Exact: Euler with 500 steps."""
    run, errors = ToyTraining(), {}
    for solver in ("euler", "multistep"):
        (rollout,) = sampled(run, steps=24, branch_steps=(1,), tail_steps=12, tail_solver=solver)
        fine = [rollout.sigmas[2] * (1 - i / 500) for i in range(501)]
        exact = walked(run.policy, rollout.branches[0, :1], fine, rollout.cond)
        errors[solver] = (rollout.finals[0, 0, :1] - exact).abs().mean().item()
    assert errors["multistep"] < 0.5 * errors["euler"]


def test_a_tail_has_at_least_one_step():
    run = ToyTraining()
    (rollout,) = sampled(run, branch_steps=(0, 4), tail_steps=1)
    for place, k in enumerate((0, 4)):
        grid = (rollout.sigmas[k + 1], 0.0)
        torch.testing.assert_close(
            rollout.finals[0, place, :1], walked(run.policy, rollout.branches[place, :1], grid, rollout.cond)
        )


@pytest.mark.parametrize("tail_steps", [0, 12])
def test_coarser_tails_take_every_nth_step_of_the_tail(tail_steps):
    run = ToyTraining()
    (rollout,) = sampled(run, coarser_tails=(3, 2), tail_steps=tail_steps)
    (plain,) = sampled(ToyTraining(), tail_steps=tail_steps)
    assert rollout.finals.shape == (3, 2, 4, 3, 4, 4)
    torch.testing.assert_close(rollout.branches, plain.branches)
    torch.testing.assert_close(rollout.finals[0], plain.finals[0])
    for place, k in enumerate((0, 2)):
        tail = list(rollout.sigmas[k + 1 :])
        if tail_steps:
            tail = [sigma for a, b in zip(tail, tail[1:], strict=False) for sigma in (a, (a + b) / 2)] + [0.0]
        for m, n in ((1, 2), (2, 3)):
            grid = [sigma for i, sigma in enumerate(tail[:-1]) if i % n == 0] + [0.0]
            y = rollout.branches[place, 2:3]
            torch.testing.assert_close(
                rollout.finals[m, place, 2:3], walked(run.policy, y, grid, rollout.cond), rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("exploration", ["branches", "trajectories", "trajectories, one noise"])
@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_in_lock_step_each_prompt_has_what_it_has_alone(exploration, batch_size):
    settings = {"exploration": exploration, "coarser_tails": (2,)}
    together = sampled(ToyTraining(), PROMPTS, batch_size=batch_size, **settings)
    for prompt, rollout in zip(PROMPTS, together, strict=True):
        (alone,) = sampled(ToyTraining(), (prompt,), batch_size=64, **settings)
        assert rollout.prompt == prompt
        assert torch.equal(rollout.cond, alone.cond)
        for name in ("starts", "branches", "finals", "anchor_final"):
            torch.testing.assert_close(getattr(rollout, name), getattr(alone, name), rtol=1e-4, atol=1e-5)


def test_the_network_is_called_once_for_each_sigma_with_all_that_stands_there():
    run = ToyTraining()
    calls = calls_of(run)
    (rollout, _) = sampled(run, PROMPTS[:2], batch_size=64)
    # From step 0 leave 4 branches of each prompt, from step 2 as many.
    assert [n for n, _ in calls] == [2 * n for n in (1, 5, 5, 9, 9, 9)]
    assert [sigma for _, sigma in calls] == pytest.approx(rollout.sigmas[:-1])


@pytest.mark.parametrize(
    ("settings", "items"),
    [
        ({"exploration": "trajectories"}, 6 + 6 * 4),
        ({"exploration": "trajectories, one noise", "branch_steps": (2, 4)}, 6 + 4 * 3),
        ({"branch_steps": (1, 3), "tail_steps": 3}, 6 + 4 * 2 + 4 * 1),
        ({"branch_steps": (1,), "coarser_tails": (2,)}, 6 + 4 * 4 + 4 * 2),
    ],
)
def test_no_evaluation_is_made_twice(settings, items):
    run = ToyTraining()
    calls = calls_of(run)
    sampled(run, **settings, batch_size=64)
    assert sum(n for n, _ in calls) == items


def test_calls_are_even_parts_of_at_most_batch_size():
    run = ToyTraining()
    calls = calls_of(run)
    sampled(run, branch_steps=(0,), group_size=12, batch_size=6)
    assert [n for n, _ in calls] == [1, *[5, 4, 4] * 5]


def test_memory_that_runs_out_changes_no_image():
    run, whole = ToyTraining(), ToyTraining()
    velocity, batches = run.policy.velocity, Batches(64)

    def limited(x, sigma, conds):
        if len(x) > 3:
            raise torch.cuda.OutOfMemoryError
        return velocity(x, sigma, conds)

    run.policy.velocity = limited
    torch.testing.assert_close(sampled(run, batches=batches)[0].finals, sampled(whole)[0].finals)
    assert batches.size <= 3


def test_anchors_are_the_ode_of_each_prompt():
    run = ToyTraining()
    conds, batches = [run.conds[prompt] for prompt in PROMPTS], Batches(2)
    generators = [seeded(9, prompt) for prompt in PROMPTS]
    finals = sample_anchors(run.policy, conds, generators=generators, steps=5, batches=batches)
    assert finals.shape == (3, 3, 4, 4)
    for prompt, final in zip(PROMPTS, finals, strict=True):
        start = torch.randn(1, 3, 4, 4, generator=seeded(9, prompt))
        end = walked(run.policy, start, run.policy.sigmas(5), run.conds[prompt])
        torch.testing.assert_close(final, end[0], rtol=1e-4, atol=1e-5)
