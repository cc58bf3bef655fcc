"""What the page says when a run has ended, however it was started, and the lists that then have one more run."""

import pytest

from _editor import RESUMABLE
from _host.browser import load_workflow, until
from _training_graphs import trained
from _workflows.names import file_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]

QUICKSTART = file_of("quickstart")


def said(page, kind, run) -> list[str]:
    """The messages of a run that are shown."""
    shown = page.locator(f".p-toast-message-{kind}").all_inner_texts()
    return [text for text in shown if f"Pave-GRPO: {run}" in text]


def test_a_finished_run_says_its_gain_and_where_the_lora_is(page, client, server, artifacts):
    load_workflow(page, QUICKSTART)
    client.run(trained("shown_whole", 2), timeout=120)
    until(page, "the page says that the run has ended", lambda: said(page, "success", "shown_whole_00001"))
    (text,) = said(page, "success", "shown_whole_00001")
    assert "finished: 2 steps, gain " in text
    assert str(server.output / "loras" / "pave" / "shown_whole_00001.safetensors") in text
    until(page, "the run can be chosen", lambda: "shown_whole_00001" in page.evaluate(RESUMABLE))
    page.screenshot(path=artifacts / "ended_finished.png")


def test_cancel_is_no_failure_and_says_what_was_kept(page, client, server, artifacts):
    load_workflow(page, QUICKSTART)
    prompt_id = client.queue(trained("shown_part", 500))
    cancelled = False
    for event in client.events(prompt_id, timeout=120):
        if not cancelled and event.kind == "pave.step" and event.data["step"] == 2:
            cancelled = True
            client.interrupt()
    until(page, "the page says what was kept", lambda: said(page, "info", "shown_part_00001"))
    (text,) = said(page, "info", "shown_part_00001")
    assert "cancelled after step " in text
    assert "set resume to 'shown_part_00001'" in text
    until(page, "the run can be chosen", lambda: "shown_part_00001" in page.evaluate(RESUMABLE))
    folder = server.output / "pave" / "shown_part_00001"
    assert {"curve.png", "summary.json"} <= {path.name for path in folder.iterdir()}
    page.screenshot(path=artifacts / "ended_cancelled.png")
