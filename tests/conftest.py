"""Every test can import the tools (`_host`, `_workflows`, ...) and the core (`pave_core`), as the tools themselves do.

It can import tests/support too.
"""

import os
import sys
from pathlib import Path

import pytest

# Before torch is loaded here, and for the server. The models are tiny: on two busy cores a second thread takes the
# first one's time to wait for it, and a run 15 times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support")]

from _host.package import load_core  # noqa: E402

load_core()

pytest_plugins = ["_host_fixtures"]  # the real host in the test's own process; one of it, whatever folders are run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long proofs too: those marked long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that use the shared server: `python tools/test.py --fast` leaves them out. Long ones are left out
    without --long. The file that takes longest comes first, so that two processes have work to the end.
    """
    items.sort(key=lambda item: item.path.name != "test_quickstart.py")
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker("server")
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def root() -> Path:
    """The pack's root."""
    return ROOT


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where tests leave pictures to look at."""
    folder = ROOT / "tests" / "artifacts"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """The ComfyUI that tests use: the one of tools/test.py."""
    from _host.install import find_comfyui

    folder = find_comfyui(None, ROOT) or ROOT / ".pave" / "comfyui"
    if not (folder / "main.py").is_file():
        pytest.skip("no ComfyUI: run the tests with `python tools/test.py`, which gets one")
    return folder


@pytest.fixture(scope="session")
def server(comfyui: Path, tmp_path_factory: pytest.TempPathFactory):
    """The real server with the pack linked in, and folders of its own for models, input, output and user."""
    from _own_server import own_server

    with own_server(comfyui, tmp_path_factory.mktemp("comfyui")) as running:
        yield running


@pytest.fixture
def client(server):
    """A connected client of the server."""
    with server.client() as connected:
        yield connected


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, one for all tests."""
    from _host.browser import chromium, find_chromium

    if not find_chromium():
        pytest.skip("no Chromium or Chrome: install one, or name it in CHROMIUM_PATH")
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def page(browser, server):
    """The real page of the server, one for all tests. page.problems lists the errors on its console so far."""
    from _host.browser import page_of

    return page_of(browser, server.url)
