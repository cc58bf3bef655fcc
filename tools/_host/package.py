"""The pack's root, and the import of a folder as a package without its parent on sys.path.

The pack's root holds `nodes/`, which would shadow ComfyUI's own `nodes.py` if the root were on sys.path. The host
loads the pack by its path for the same reason; so do the tools and the tests.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def load_package(name: str, folder: Path) -> ModuleType:
    """Import `folder/__init__.py` as the package `name`; `import name.module` works afterwards.

    A second call returns the first module.
    """
    if name in sys.modules:
        return sys.modules[name]
    file = folder / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(folder)])
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not a package: it has no __init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_core() -> ModuleType:
    """Import the pack's core, which is independent of the host, as `pave_core`."""
    return load_package("pave_core", ROOT / "pave_core")
