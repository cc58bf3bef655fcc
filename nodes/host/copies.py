"""The pack lies in custom_nodes twice: a clone and a downloaded archive, or a backup beside it."""

from __future__ import annotations

import inspect
import logging
import sys
from pathlib import Path

logger = logging.getLogger("pave")


def is_second(folder: Path) -> bool:
    """Whether the host has loaded another copy than that in `folder`; a warning names both."""
    # Not by an import: pytest and others import the root where there is no host.
    node = getattr(sys.modules.get("nodes"), "NODE_CLASS_MAPPINGS", {}).get("PaveTrain")
    if node is None:
        return False
    first = Path(inspect.getfile(node)).parents[1]
    logger.warning(
        f"Pave-GRPO lies in custom_nodes twice: {first} is used, and nothing of {folder}; move one of the two out of "
        "custom_nodes, and restart"
    )
    return True
