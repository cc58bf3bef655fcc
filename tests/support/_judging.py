"""Graphs with a judge, this machine's address in its network, and servers with an environment of their own."""

import contextlib
import os
import socket
from pathlib import Path

import pytest

from _host.browser import PATIENCE, collect_problems, settle, wait_ready
from _judge_server import Server
from _own_server import own_server
from _training_graphs import Graph, node

ROOT = Path(__file__).resolve().parents[2]
JUDGE = {
    "api": "chat completions",
    "model": "default",
    "instruction": "Rate {prompt}",
    "parse": "number",
    "pattern": "score",
    "timeout": 20.0,
    "retries": 0,
    "concurrency": 4,
    "max_tokens": 16,
    "batch_size": 4,
    "allow_remote": False,
    "key_variable": "",
}


def judge_node(base_url: str, **inputs) -> dict:
    return node("PaveJudge", base_url=base_url, **JUDGE | inputs)


def scoring(reward: dict, count: int = 1) -> Graph:
    """A graph that scores `count` images of one colour."""
    return {
        "image": node("EmptyImage", width=64, height=64, batch_size=count, color=0xFF0000),
        "reward": reward,
        "score": node("PaveScore", reward=["reward", 0], images=["image", 0], prompts="a red square"),
        "show": node("PreviewAny", source=["score", 1]),
    }


def own_address() -> str:
    """This machine's address in its network, under which others see it: not loopback, though it leads here."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        address = probe.getsockname()[0]
        if not address.startswith(("127.", "0.")):
            return address
    pytest.skip("this machine has no address but loopback")


@contextlib.contextmanager
def far_away(behave):
    """A judge's Server that is another machine as far as an address tells."""
    server = Server(behave, own_address())
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def comfy_server(comfyui: Path, base: Path, environment: dict[str, str]):
    """A real server with the pack and these variables in its environment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PAVE_JUDGE")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        server = own_server(comfyui, base)
        server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def another_page(page, url: str, **options):
    """A second page, in the browser of `page` (Playwright starts one only), on the server at `url`."""
    settle(url)
    context = page.context.browser.new_context(viewport={"width": 2400, "height": 1400}, **options)
    try:
        opened = context.new_page()
        opened.problems = collect_problems(opened)
        opened.set_default_timeout(PATIENCE * 1000)
        opened.goto(url)
        wait_ready(opened)
        yield opened
    finally:
        context.close()
