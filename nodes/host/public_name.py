"""The core under its own name, for other packs: `from pave_core.rewards import register`.

The host names our modules after the pack's path, so that a plain `import pave_core` would not find them, or would load
a second copy with a list of rewards of its own.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys

from ... import pave_core

NAME = "pave_core"

logger = logging.getLogger("pave")


def publish() -> None:
    """Make every module of the core importable as pave_core.<module>: the same objects that the nodes use.

    If another package has that name already, it is left alone and a warning is logged.
    """
    if sys.modules.setdefault(NAME, pave_core) is not pave_core:
        logger.warning(
            "Pave-GRPO: another package is called pave_core: this pack's nodes do not see the rewards that other packs "
            "register there"
        )
        return
    for info in pkgutil.walk_packages(pave_core.__path__, f"{pave_core.__name__}."):
        name = NAME + info.name.removeprefix(pave_core.__name__)
        sys.modules.setdefault(name, importlib.import_module(info.name))
