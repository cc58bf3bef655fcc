"""What the user is told once, in the log and on the page: the "pave.notice" event, shown by web/pave_notices.js."""

from __future__ import annotations

import logging

from server import PromptServer

logger = logging.getLogger("pave")
_told: set[str] = set()


def show_text(text: str, node_id: str | None) -> None:
    """Show `text` on a node of the page whose run this is; None: on none."""
    if node_id is not None:
        PromptServer.instance.send_progress_text(text, node_id, PromptServer.instance.client_id)


def tell_once(notice: str) -> None:
    """Warn in the log and on the page, the first time in this process that `notice` is told."""
    if notice in _told:
        return
    _told.add(notice)
    logger.warning(f"Pave-GRPO {notice}")
    PromptServer.instance.send_sync("pave.notice", {"text": notice})
