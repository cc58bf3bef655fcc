"""Hostile prompts through the real server: every node, every input; what makes no sense is refused in clear words."""

from collections import Counter

import pytest

from _hostile import alive, case_of, cases, tried

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


HUGE, NAN, HALF = 10**18, float("nan"), "\ud800"
ONCE = [
    *(("PaveTrain", "steps", value) for value in (HUGE, 201, 10**400, "", "x", {}, None, True)),
    *(("PaveRolloutSettings", "steps", value) for value in (HUGE, 201, 10**400, "", "x", {})),
    *(("PaveOptimizer", name, value) for name in ("warmup_steps", "decay_steps") for value in (HUGE, -1, 10**400, "x")),
    *((kind, "scheduler", HALF) for kind in ("PaveTrain", "PaveRolloutSettings", "PaveCompare")),
    *((kind, "segments", value) for kind in ("PaveTrain", "PaveObjective") for value in ("1000000000", HUGE, "1000")),
    *((kind, "segments", value) for kind in ("PaveTrain", "PaveObjective") for value in ("2 " * 3000, 10**400)),
    *((kind, "preset", value) for kind in ("PaveTrain", "PaveOptimizer", "PaveMemory") for value in ("x", {}, 3, HALF)),
    *((kind, "resume", value) for kind in ("PaveTrain", "PaveBegin") for value in (3, True, {}, None)),
    *((kind, "guidance", NAN) for kind in ("PaveTrain", "PavePolicy", "PaveCompare")),
    *(("PaveRewardMix", f"weight_{i}", NAN) for i in (1, 2, 3, 4)),
    *(("PaveScoresFromNumbers", *each) for each in (("weight", NAN), ("name", HALF), ("name", "a\nb"))),
    *(("PaveCompare", label, "a\nb") for label in ("label_a", "label_b")),
    *(("PaveTrainAdvanced", name, value) for name in ("rollout", "objective", "optimizer") for value in ("", {})),
    *(("PavePolicy", "lora", value) for value in ("", {}, 3)),
    *(("PaveSaveLoRA", "lora", value) for value in ({}, None, "x")),
    *(("PaveSaveLoRA", "name", value) for value in ("CON", "nul", "COM1.safetensors", "../x", "/x", "C:\\x", "a\0b")),
    ("PaveLoRARecipe", "lora", None),
    ("PavePrompts", "text", "x" * 1_000_000),
    ("PaveTrain", "negative_prompt", "x" * 1_000_000),
    ("PaveJudge", "base_url", "x" * 1_000_000),
]
"""(node, input, value) of what hung, killed the worker, gave a traceback or was taken, before the door."""


def test_what_once_hung_or_failed_is_refused_in_clear_words(server, client):
    info = client.object_info()
    chosen = [case_of(kind, info[kind], name, value) for kind, name, value in ONCE]
    taken = [str(case) for case in chosen if tried(server, case).kind in ("accepted", *BAD)]
    assert not taken
    assert alive(server, 3)


def test_a_sample_of_hostile_prompts_is_refused_in_clear_words(server, everything):
    run(server, everything[:SHORT])


@pytest.mark.long
def test_every_node_and_every_input_refuses_hostile_values_in_clear_words(server, everything):
    assert len(everything) >= 5000
    run(server, everything)
