"""The floor of tools/bench.py: the network is called as often as by the training step, and nothing is left behind."""

from collections import Counter

import pytest
import torch


@pytest.fixture
def stepper(host):
    """A run of a few latents on the bundled model, not begun."""
    from _bench.settings import replaced
    from _bench.speed import Stepper
    from _bench.subject import bundled

    subject = bundled()
    settings = {"rollout.steps": 3, "rollout.branch_steps": (0,), "rollout.group_size": 2, "run.prompts_per_step": 1}
    return Stepper(subject, replaced(subject.config, settings))


def test_the_floor_makes_the_calls_of_the_step_again(stepper):
    seen: list[tuple[int, bool]] = []
    network = stepper._calls.network
    with stepper.running():
        hook = network.register_forward_pre_hook(lambda _, args: seen.append((len(args[0]), torch.is_grad_enabled())))
        pair = stepper.pair()
        hook.remove()
        gradients = [p.grad for p in stepper._policy.parameters().values()]
    step, floor = seen[: 3 + 3], seen[3 + 3 :]
    # Three calls of anchor and branches, and max(S) of the update; the floor calls the rollout's with and without the
    # adapter, after one call that brings the model back.
    rollout = [call for call in step if not call[1]]
    update = [call for call in step if call[1]]
    assert Counter(floor[1:]) == Counter(rollout + rollout + update)
    assert floor[0] == (1, False)
    assert sum(n for n, _ in rollout) == pair.evaluations["rollout"] == 1 * 3 + 2 * 2
    assert sum(n for n, _ in update) == pair.evaluations["update"] == 1 + 1 + 2
    assert min(pair.floor.rollout, pair.floor.adapted, pair.floor.update) > 0
    assert gradients == [None] * len(gradients)
