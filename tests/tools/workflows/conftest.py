"""The workflow that the tests of the checks change."""

import pytest

from _small_workflow import Workflow, sound_workflow


@pytest.fixture
def sound() -> Workflow:
    """A workflow that has everything in it and nothing wrong."""
    return sound_workflow()
