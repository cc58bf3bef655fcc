"""Images that are drawn before the update of the step before, against steps written out (see _by_hand.py)."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from _by_hand import descend, loss_by_hand, scored, z_scores
from _toy import Brightness, ToyTraining, same, toy_config, weights, without_clock
from pave_core.config.objective import PaveConfig
from pave_core.errors import ConfigError
from pave_core.training.step import TrainingStep

STEEP = {"plain_weight": 3.0, "segment_weights": (3.0, 3.0)}
WIDE = {"ratio": "clip", "clip_range": 1.0}


def config_of(pave, rate=1.0, iterations=2, **rollout):
    """Plain gradient descent, with images that are drawn ahead."""
    base = toy_config(iterations=iterations, **rollout)
    plain = {"optimizer": "SGD", "betas": (0.0, 0.999), "weight_decay": 0.0, "max_grad_norm": 1000.0}
    optim = replace(base.optim, learning_rate=rate, **plain)
    return replace(base, optim=optim, pave=PaveConfig(**pave), run=replace(base.run, sample_ahead=True))


def step_of(run, at):
    """Step `at` of a run, as it is drawn by the weights that the run has now."""
    return TrainingStep(run.policy, run.decoder, conds=run.conds, config=run.config, state=run.state, at=at)


@pytest.mark.parametrize("exploration", ["branches", "trajectories"])
@pytest.mark.parametrize(
    "limit",
    [WIDE, {"ratio": "clip", "clip_range": 1e-3}, {"ratio": "divergence mask", "max_divergence": 1e-6}],
    ids=str,
)
@pytest.mark.parametrize("residual", ["image", "noise"])
def test_the_second_step_learns_from_images_of_the_first_weights_by_the_ratio(exploration, limit, residual):
    config = config_of({"residual": residual, **STEEP, **limit}, exploration=exploration)
    run, hand = ToyTraining(config), ToyTraining(config)
    records = list(run.stream())
    rollouts = [step_of(hand, at).sample() for at in (0, 1)]  # both by the fresh weights
    logs = []
    for drawn in rollouts:
        advantages = [rewards[0] for rewards in scored(hand, drawn)]
        advantages = [torch.stack([z_scores(group) for group in rewards]) for rewards in advantages]
        logs.append((advantages, loss_by_hand(hand, drawn, advantages, None)[1]))
    (first, _), (second, old) = logs
    descend(hand, loss_by_hand(hand, rollouts[0], first, None)[0])
    between = weights(hand.policy)
    descend(hand, loss_by_hand(hand, rollouts[1], second, old)[0])
    found, expected = (
        torch.cat([values[name].flatten() - between[name].flatten() for name in values])
        for values in (weights(run.policy), weights(hand.policy))
    )
    assert expected.norm() > 1e-3
    assert (found - expected).norm() < 2e-3 * expected.norm()
    limited = [records[1].segments[n].limited for n in (1, 2, 3)]
    assert limited == [0, 0, 0] if limit is WIDE else max(limited) > 0
    assert [records[0].segments[n].limited for n in (1, 2, 3)] == [0, 0, 0], "the first step is on-policy"


def test_without_a_change_of_weights_it_is_what_it_would_be_without():
    ahead = config_of(WIDE, rate=1e-7, iterations=3)  # the least rate
    plain = replace(ahead, run=replace(ahead.run, sample_ahead=False), pave=PaveConfig())
    for found, expected in zip(*(ToyTraining(config).stream() for config in (ahead, plain)), strict=True):
        assert found.prompts == expected.prompts
        assert found.reward_mean == pytest.approx(expected.reward_mean, rel=1e-6)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-4)
        assert found.segments[2].log_prob == pytest.approx(expected.segments[2].log_prob, rel=1e-5)


def test_the_next_images_are_there_before_this_steps_are_judged():
    said = []

    class Judge(Brightness):
        def __call__(self, images, prompts):
            said.append(("judged", run.policy.calls))
            return super().__call__(images, prompts)

    run = ToyTraining(config_of(WIDE, iterations=2), Judge())
    list(run.stream())
    calls = [at for what, at in said if what == "judged"]
    lone = ToyTraining(run.config)
    step_of(lone, 0).draw()
    first = lone.policy.calls
    step_of(lone, 1).draw_ahead()
    assert first < calls[0] == lone.policy.calls


def test_an_interrupted_step_is_made_again_as_it_was():
    config = config_of({**STEEP, **WIDE}, iterations=4)
    whole, broken = ToyTraining(config), ToyTraining(config)
    records = without_clock(list(whole.stream()))
    made = list(islice(broken.stream(), 2))
    stream, calls = broken.stream(), broken.policy.calls

    def fail():
        if broken.policy.calls > calls + 20:
            raise KeyboardInterrupt

    broken.policy.fail = fail
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    broken.policy.fail = lambda: None
    made += broken.stream()
    assert without_clock(made) == records
    assert same(weights(broken.policy), weights(whole.policy))


def test_several_processes_are_refused():
    class Several:
        several = True

    run = ToyTraining(config_of(WIDE))
    from pave_core.training.loop import train

    with pytest.raises(ConfigError, match="sample_ahead: .*several processes"):
        next(
            train(
                run.policy,
                run.decoder,
                reward=run.reward,
                conds=run.conds,
                config=run.config,
                state=run.state,
                processes=Several(),
            )
        )
