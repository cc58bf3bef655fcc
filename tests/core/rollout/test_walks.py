"""Walks in lock-step, with velocities that are known."""

import pytest
import torch

from pave_core.batches import Batches
from pave_core.rollout.walks import Point, Walks


class Speaks:
    """v = cond; `calls` are (sigma, the conditionings) of each call."""

    def __init__(self):
        self.calls = []

    def velocity(self, x, sigma, conds):
        assert len(set(sigma.tolist())) == 1
        self.calls.append((sigma[0].item(), list(conds)))
        return torch.tensor([float(cond) for cond in conds]).view(-1, 1).expand(len(x), x.shape[1])


def walk(x, grid, cond, leave=None):
    """Along a grid; leave: is called with each sigma."""
    for i in range(len(grid) - 1):
        v = yield Point(x, grid[i], cond)
        x = x + (grid[i + 1] - grid[i]) * v
        if leave:
            leave(grid[i + 1])
    return x


def test_whatever_stands_at_one_sigma_shares_a_call_and_each_gets_its_own_velocity():
    policy, ended = Speaks(), {}
    walks = Walks(policy, Batches(64))
    walks.start(walk(torch.zeros(2, 3), (1.0, 0.5, 0.25, 0.0), 1), lambda x: ended.update(long=x))
    walks.start(walk(torch.zeros(1, 3), (0.5, 0.0), 4), lambda x: ended.update(short=x))
    walks.start(walk(torch.ones(3, 3), (1.0, 0.25, 0.0), 2), lambda x: ended.update(other=x))
    walks.run()
    calls = [(sigma, sorted(conds)) for sigma, conds in policy.calls]
    assert calls == [(1.0, [1, 1, 2, 2, 2]), (0.5, [1, 1, 4]), (0.25, [1, 1, 2, 2, 2])]
    assert torch.equal(ended["long"], torch.full((2, 3), -1.0))
    assert torch.equal(ended["short"], torch.full((1, 3), -2.0))
    assert torch.equal(ended["other"], torch.full((3, 3), -1.0))


def test_walks_may_start_others_on_their_way_and_at_their_end():
    policy, ended = Speaks(), []
    walks = Walks(policy, Batches(64))

    def leave(sigma):
        if sigma == 0.5:
            walks.start(walk(torch.zeros(1, 1), (0.5, 0.0), 7), lambda x: ended.append(("left", x.item())))

    def go_on(x):
        ended.append(("first", x.item()))
        walks.start(walk(x, (0.25, 0.0), 3), lambda x: ended.append(("second", x.item())))

    walks.start(walk(torch.zeros(1, 1), (1.0, 0.5, 0.25), 1, leave), go_on)
    walks.run()
    assert policy.calls == [(1.0, [1]), (0.5, [1, 7]), (0.25, [3])]
    assert sorted(ended) == [("first", -0.75), ("left", -3.5), ("second", -1.5)]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_calls_have_at_most_batch_size_items(size):
    policy, ended = Speaks(), []
    walks = Walks(policy, Batches(size))
    for cond in (1, 2, 3):
        walks.start(walk(torch.zeros(cond, 1), (1.0, 0.0), cond), lambda x: ended.append(x.flatten().tolist()))
    walks.run()
    assert [cond for _, conds in policy.calls for cond in conds] == [1, 2, 2, 3, 3, 3]
    assert max(len(conds) for _, conds in policy.calls) == min(size, 6)
    assert ended == [[-1.0], [-2.0] * 2, [-3.0] * 3]


def test_a_walk_needs_no_gradient_and_gets_none():
    weight = torch.ones(1, requires_grad=True)

    class Learns(Speaks):
        def velocity(self, x, sigma, conds):
            return x * weight

    ended = []
    walks = Walks(Learns(), Batches(1))
    walks.start(walk(torch.ones(1, 1), (1.0, 0.0), 1), ended.append)
    walks.run()
    assert not ended[0].requires_grad
