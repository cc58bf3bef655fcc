"""A real server with the pack and nothing that another test has left behind."""

import sys
from pathlib import Path

from _host.install import link_pack
from _host.server import ComfyServer

ROOT = Path(__file__).resolve().parents[2]


def own_server(comfyui: Path, base: Path, *options: str) -> ComfyServer:
    """A server, not started yet, with the pack linked in and all its folders below `base`; its log is server.log there.

    options: more arguments for main.py. Without the API nodes the page does not talk to the internet either.
    """
    for name in ("input", "models"):
        (base / name).mkdir(parents=True, exist_ok=True)
    link_pack(base / "custom_nodes", ROOT)
    options = ("--disable-api-nodes", *options)
    return ComfyServer(Path(sys.executable), comfyui, base / "server.log", base=base, options=options)
