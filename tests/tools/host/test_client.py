"""A client of the real server, with the host's own nodes alone."""

import pytest

from _host.client import PromptError

IMAGE = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 32, "batch_size": 1, "color": 255}}
PREVIEW = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}


def test_a_prompt_runs_and_its_image_can_be_fetched(client):
    outputs = client.run({"1": IMAGE, "2": PREVIEW}, timeout=60)
    assert client.view(**outputs["2"]["images"][0]).startswith(b"\x89PNG")


def test_events_come_in_order_and_end(client):
    prompt_id = client.queue({"1": {**IMAGE, "inputs": {**IMAGE["inputs"], "color": 7}}, "2": PREVIEW})
    kinds = [event.kind for event in client.events(prompt_id, timeout=60)]
    assert kinds.index("execution_start") < kinds.index("executed") < kinds.index("execution_success")
    assert kinds[-1] == "executing"


def test_a_refused_prompt_names_node_and_field(client):
    wrong = {**IMAGE, "inputs": {**IMAGE["inputs"], "width": -4}}
    with pytest.raises(PromptError, match=r"EmptyImage \(node 1\).*-4.*width"):
        client.queue({"1": wrong, "2": PREVIEW})


def test_a_prompt_of_which_a_part_is_refused_does_not_run(client):
    wrong = {**IMAGE, "inputs": {**IMAGE["inputs"], "width": -4}}
    with pytest.raises(PromptError, match=r"EmptyImage \(node 3\)"):
        client.queue({"1": IMAGE, "2": PREVIEW, "3": wrong, "4": {**PREVIEW, "inputs": {"images": ["3", 0]}}})


def test_a_node_that_fails_gives_its_message(server, client):
    (server.folder / "input" / "broken.png").write_bytes(b"not a picture")
    broken = {"class_type": "LoadImage", "inputs": {"image": "broken.png"}}
    with pytest.raises(PromptError, match=r"LoadImage \(node 1\): .*broken\.png"):
        client.run({"1": broken, "2": PREVIEW}, timeout=60)
