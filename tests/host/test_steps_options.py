"""The options of the whole algorithm in drawn loops: the adapter of Pave Train bit for bit, and what is refused."""

from collections.abc import Callable

import pytest

from _host.client import PromptError
from _training_graphs import Graph, choosing, contrasting, looped, lora, metrics, same, trained, with_settings

PLAIN: Callable[[Graph], Graph] = lambda graph: graph  # noqa: E731
CASES: dict[str, tuple[Callable[[Graph], Graph], dict[str, dict]]] = {
    "tails": (
        PLAIN,
        {
            "rollout": {"kernel": "cps", "window_every": 1, "coarser_tails": "2", "tail_solver": "multistep"},
            "objective": {"variance": "span", "step_weights": "1, 0.5", "kl_weight": 0.1},
            "optimizer": {"ema_decay": 0.5},
        },
    ),
    "trajectories": (
        contrasting,
        {
            "rollout": {"exploration": "trajectories", "kernel": "dance", "contrast": 2, "tail_steps": 2},
            "objective": {"updates_per_rollout": 2, "ratio": "clip", "variance": "matched"},
        },
    ),
    "one_noise": (
        choosing,
        {
            "rollout": {"exploration": "trajectories, one noise", "branch_steps": "1, 2", "candidates": 2},
            "objective": {"updates_per_rollout": 2, "ratio": "divergence mask", "global_advantage": True},
        },
    ),
    "all_at_once": (
        lambda graph: contrasting(choosing(graph)),
        {"rollout": {"contrast": 2, "candidates": 2, "tail_steps": 2}, "objective": {"segments": "2"}},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_loop_with_any_options_gives_bit_for_bit_the_adapter_of_pave_train(client, server, case):
    drawn, settings = CASES[case]
    settings = settings | {"train": {}, "begin": {}}
    one = with_settings(trained(f"{case}_one"), **{k: v for k, v in settings.items() if k != "begin"})
    loop = with_settings(drawn(looped(f"{case}_loop")), **{k: v for k, v in settings.items() if k != "train"})
    client.run(one, timeout=300)
    client.run(loop, timeout=300)
    assert len(metrics(server, f"{case}_one")) == 3
    assert metrics(server, f"{case}_loop") == metrics(server, f"{case}_one")
    ours, theirs = lora(server, f"{case}_loop"), lora(server, f"{case}_one")
    assert any(value.abs().max() > 0 for key, value in ours.items() if "lora_B" in key)
    assert same(ours, theirs)


@pytest.mark.parametrize(
    ("drawn", "rollout", "message"),
    [
        (PLAIN, {"candidates": 2}, "candidates: the prompts of this step have not been chosen: put Pave Candidates"),
        (PLAIN, {"contrast": 2}, "contrast: the groups have not been narrowed to 2 images: put Pave Contrast"),
        (choosing, {}, "candidates: there is no choice to make, as candidates is 0"),
        (contrasting, {}, "contrast: it is 0, so that all images are trained on"),
        (choosing, {"candidates": 5}, "candidates: 5 of 2 training prompts: lower candidates, or write more prompts"),
    ],
)
def test_a_loop_without_the_nodes_of_an_option_says_which_are_missing(client, drawn, rollout, message):
    with pytest.raises(PromptError, match=message):
        client.run(with_settings(drawn(looped("refused", 1)), rollout=rollout), timeout=300)


def test_a_state_whose_prompts_are_chosen_cannot_be_used_before_the_choice(client):
    graph = with_settings(choosing(looped("early", 1)), rollout={"candidates": 2}, loss={"state": ["loop", 1]})
    with pytest.raises(PromptError, match="state: nodes loss and choose both change the state that node loop gives"):
        client.run(graph, timeout=300)
