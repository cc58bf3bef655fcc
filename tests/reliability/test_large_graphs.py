"""Large graphs: what is wrong with a thousand nodes is found in linear time, and said once."""

import json
import time

from _hostile import alive, post
from _training_graphs import SETTINGS, composed, looped, node


def crowd(count):
    """Losses on one state, each with its own output."""
    graph = composed() | {
        "begin": node("PaveBegin", **SETTINGS, **{"prompts_per_step": 1, "seed": 0, "run_name": "crowd"})
    }
    graph["begin"]["inputs"] |= {"resume": "none", "checkpoint_every": 25, "evaluation_seeds": 1, "evaluate_every": 0}
    graph |= {
        "draw": node("PaveRollout", state=["begin", 0]),
        "score": node("PaveScore", reward=["reward", 0], images=["draw", 1], prompts=["draw", 2]),
        "advantage": node("PaveAdvantage", rollout=["draw", 0], scores=["score", 0]),
    }
    for i in range(count):
        graph[f"loss{i}"] = node(
            "PaveDecompositionLoss", state=["begin", 0], rollout=["draw", 0], advantages=["advantage", 0]
        )
        graph[f"shown{i}"] = node("PreviewAny", source=[f"loss{i}", 1])
    return graph


def test_a_thousand_losses_on_one_state_are_refused_in_a_word(server):
    """The reply grows with the graph. What of the time grows faster is the host's own loop over outputs."""
    seconds, sizes = {}, {}
    for count in (500, 1000, 2000):
        begin = time.monotonic()
        status, reply = post(server, "/prompt", {"prompt": crowd(count)}, timeout=60)
        seconds[count], sizes[count] = time.monotonic() - begin, len(reply)
        assert status == 400
        errors = json.loads(reply)["node_errors"]
        assert list(errors) == ["begin"]
        assert f"state: {count} nodes (loss0, loss1, loss2, ...) change the state" in reply.decode()
    print("\n" + "\n".join(f"  {n:5} losses: {seconds[n]:.2f} s, {sizes[n] / 1000:.0f} kB" for n in seconds))
    assert sizes[2000] < 2.5 * sizes[1000]
    assert sizes[2000] < 500_000


def test_the_message_is_said_once_for_a_node(server):
    """The host repeats what validate_inputs says for each input that it names."""
    graph = looped("once", iterations=1)
    graph["objective"]["inputs"]["segments"] = "1000000000"
    status, reply = post(server, "/prompt", {"prompt": graph})
    assert status == 400
    errors = json.loads(reply)["node_errors"]["objective"]["errors"]
    assert [error["details"] for error in errors] == [
        "segments - segments: 1000000000 is above 64, the largest allowed: 1 is the plain step, which is always there; "
        "leave the field empty for plain GRPO"
    ]
    assert alive(server, 2)
