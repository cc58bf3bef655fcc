"""nodes/host/tiny.py for a tool: the one module of the pack's host side that make_tiny needs, without its nodes."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from _host.package import ROOT, load_package


def load_host_tiny() -> ModuleType:
    """The pack's nodes.host.tiny; `comfy` must be importable. A second call returns the first module."""
    return import_module(f"{load_package('pave_pack', ROOT).__name__}.nodes.host.tiny")
