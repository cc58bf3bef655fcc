"""A server for one job of a tool, which leaves nothing behind.

Standard library only, as its environment may be.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .environment import Environment
from .install import link_pack
from .package import ROOT
from .server import ComfyServer


@contextlib.contextmanager
def throwaway_server(environment: Environment, options: tuple[str, ...] = ()) -> Iterator[ComfyServer]:
    """The environment's ComfyUI, running with no other pack, in folders of its own that are deleted in the end."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        link_pack(base / "custom_nodes", ROOT)
        log = base / "server.log"
        with ComfyServer(environment.python, environment.comfyui, log, base=base, options=options) as server:
            yield server
