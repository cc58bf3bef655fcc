"""The bundled CLIP as the eyes of a taste."""

import pytest

from pave_core.person.taste import ClipFeatures


@pytest.fixture(scope="session")
def eyes(root) -> ClipFeatures:
    tiny = root / "assets" / "tiny"
    return ClipFeatures(tiny / "open_clip_model.safetensors", tiny / "open_clip_config.json")
