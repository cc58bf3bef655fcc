"""Long runs: memory, time a step, descriptors and threads of the server's process do not grow with the steps."""

import statistics
import time

import pytest

from _soak import MB, process, soak
from _training_graphs import Graph, looped, node, trained

MOST_GROWTH = 1.05


def smallest(graph: Graph, **begin) -> Graph:
    """`graph` with the smallest steps: one prompt, one branch step, groups of two, two denoising steps."""
    graph["rollout"]["inputs"] |= {"steps": 2, "branch_steps": "0", "group_size": 2}
    for each in graph.values():
        if each["class_type"] in ("PaveBegin", "PaveTrainAdvanced"):
            each["inputs"] |= {"prompts_per_step": 1, "evaluation_seeds": 1} | begin
    return graph


def looped_with_preview(run_name: str, iterations: int) -> Graph:
    return smallest(looped(run_name, iterations)) | {
        "view": node("PavePreviewGroup", advantages=["advantage", 0], rows=4)
    }


def hold_steady(course, marks, first: int) -> None:
    """Print the table, and compare its last mark with that of step `first`."""
    print("\n" + course.table(marks))
    print(f"{course.sent / 1e6:.1f} MB of messages to the page, the largest {course.largest / 1e3:.1f} kB")
    growth = course.memory_at(marks[-1]) / course.memory_at(first)
    print(f"memory from step {first} to {marks[-1]}: {growth - 1:+.1%}")
    assert growth < MOST_GROWTH
    assert course.descriptors[marks[-1] - 1] <= course.descriptors[first - 1] + 4
    assert course.threads[marks[-1] - 1] <= course.threads[first - 1] + 4


def test_a_short_loop_with_preview_holds_steady(client, server):
    hold_steady(soak(server, client, looped_with_preview("soak_short", 60)), (20, 40, 60), first=20)


@pytest.mark.long
def test_a_short_training_holds_steady(client, server):
    hold_steady(soak(server, client, smallest(trained("soak_train", 100))), (20, 60, 100), first=20)


@pytest.mark.long
def test_300_iterations_of_a_loop_with_preview(client, server):
    hold_steady(soak(server, client, looped_with_preview("soak_loop", 300)), (50, 100, 150, 200, 250, 300), first=50)


@pytest.mark.long
def test_2000_steps_of_pave_train(client, server):
    course = soak(server, client, smallest(trained("soak_2000", 2000)))
    hold_steady(course, (50, 250, 500, 1000, 1500, 2000), first=50)


@pytest.mark.long
def test_ten_trainings_in_a_row_and_then_the_memory_returns(client, server):
    """Each begins where the one before it began; and the host's /free leaves nothing of ours behind."""
    program = process(server)
    memory = []
    for number in range(10):
        client.run(smallest(trained(f"row_{number}", 5)), timeout=300)
        memory.append(program.memory_info().rss / MB)
    client.post("/free", {"unload_models": True, "free_memory": True})
    time.sleep(3)  # the worker frees when it next looks at its queue
    freed = program.memory_info().rss / MB
    print("\nMB after each of ten trainings: " + ", ".join(f"{each:.0f}" for each in memory))
    print(f"after /free: {freed:.0f} MB; {program.num_fds()} descriptors, {program.num_threads()} threads")
    assert statistics.median(memory[-3:]) < MOST_GROWTH * statistics.median(memory[1:4])
    assert freed <= max(memory)
