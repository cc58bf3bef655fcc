"""nodes/host/tiny.py for a tool: the one module of the pack's host side that make_tiny needs, without loading the pack."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from _package import ROOT


def load_host_tiny() -> ModuleType:
    """Import nodes/host/tiny.py by its path; `comfy` must be importable."""
    path = ROOT / "nodes" / "host" / "tiny.py"
    spec = importlib.util.spec_from_file_location("pave_host_tiny", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
