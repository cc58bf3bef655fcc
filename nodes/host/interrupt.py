"""The user's Cancel."""

from __future__ import annotations

import comfy.model_management


def check() -> None:
    """Raise the host's interruption if the user pressed Cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()
