"""Hostile prompts through the real server: every node, every input; what makes no sense is refused in clear words."""

from collections import Counter

import pytest

from _hostile import alive, cases, tried

SHORT = 400
BATCH = 100
BAD = {
    *("raw exception of ours at validation", "raw traceback", "accepted, senseless"),
    *("hangs", "hangs, Cancel works"),
}


def run(server, chosen) -> None:
    """Try the cases, print the table of what became of them, and assert that none of it is bad."""
    outside = {path for path in server.folder.rglob("*") if not inside(server, path)}
    counts, bad = Counter(), []
    for number, case in enumerate(chosen):
        outcome = tried(server, case)
        counts[outcome.kind] += 1
        clear = outcome.kind in ("rejected, clear", "clear error")
        if outcome.kind in BAD or (clear and any(len(message) > 560 for message in outcome.messages)):
            bad.append(f"{case}: {outcome.kind}: {[message[:300] for message in outcome.messages]}")
        if number % BATCH == BATCH - 1:
            assert alive(server, number), f"the worker is dead after {case}"
    assert alive(server, len(chosen))
    new = {path for path in server.folder.rglob("*") if not inside(server, path)} - outside
    print(f"\n{len(chosen)} prompts")
    for kind, count in counts.most_common():
        print(f"  {count:5} {kind}")
    assert not bad, f"{len(bad)} of {len(chosen)}:\n" + "\n".join(bad[:60])
    assert not new


def inside(server, path) -> bool:
    """Whether runs may write there."""
    return path.relative_to(server.folder).parts[0] in ("output", "temp", "user", "server.log")


@pytest.fixture
def everything(client):
    return cases(client.object_info())


def test_a_sample_of_hostile_prompts_is_refused_in_clear_words(server, everything):
    run(server, everything[:SHORT])


@pytest.mark.long
def test_every_node_and_every_input_refuses_hostile_values_in_clear_words(server, everything):
    assert len(everything) >= 5000
    run(server, everything)
