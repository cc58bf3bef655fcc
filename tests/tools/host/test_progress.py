"""The bar of a run, from the events of a server."""

from _host.client import Event
from _host.progress import ProgressBar

PROMPT = {"1": {"class_type": "PaveTrain", "inputs": {}, "_meta": {"title": "Train it"}}}


def test_the_bar_shows_the_reward(capsys):
    bar = ProgressBar(PROMPT)
    bar.show(Event("executing", {"node": "1"}))
    step = {"node": "1", "step": 6, "steps": 12, "reward_mean": 0.4321, "reward_std": 0.1, "seconds": 15.0}
    bar.show(Event("pave.step", step))
    assert capsys.readouterr().out.splitlines() == [
        "Train it ...",
        "[############............] 6/12  reward 0.432 +/- 0.100  15.0 s/step  1:30 left",
    ]


def test_a_log_gets_a_line_for_a_tenth(capsys):
    bar = ProgressBar(PROMPT)
    for step in range(1, 101):
        bar.show(
            Event(
                "pave.step",
                {"node": "1", "step": step, "steps": 100, "reward_mean": 0.4, "reward_std": 0.1, "seconds": 1.0},
            )
        )
    assert len(capsys.readouterr().out.splitlines()) == 11
