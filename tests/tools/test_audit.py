"""pip-audit itself, on the packages that are installed, asking a service of this test's own."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from _audit import audit

PYTHON = Path(sys.executable)


def advisory(*events: dict[str, str]) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, *events]}]
    package = {"name": "accelerate", "ecosystem": "PyPI"}
    return {"id": "TEST-1", "summary": "x", "affected": [{"package": package, "ranges": ranges}]}


@pytest.fixture
def service() -> Iterator[Callable[[list[Any]], tuple[str, ...]]]:
    """service(what it says of accelerate) -> the options by which pip-audit asks it."""
    answers: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = {"vulns": answers} if asked["package"]["name"] == "accelerate" and answers else {}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def says(vulnerabilities: list[Any]) -> tuple[str, ...]:
            answers[:] = vulnerabilities
            return "-s", "osv", "--osv-url", f"http://127.0.0.1:{server.server_port}/v1/query"

        yield says
        server.shutdown()


def test_all_of_our_requirements_are_audited(service, capsys):
    assert audit(PYTHON, *service([]))
    said = capsys.readouterr().out
    assert "NOT AUDITED" not in said
    for name in ("accelerate", "open-clip-torch", "safetensors", "tensorboard", "matplotlib", "rapidocr"):
        assert f"{name} " in said


def test_a_vulnerability_that_a_newer_version_mends_fails_the_run(service, capsys):
    assert not audit(PYTHON, *service([advisory({"fixed": "999.0"})]))
    assert "has TEST-1; mended in 999.0: raise the bound" in capsys.readouterr().out


def test_one_that_no_version_mends_is_said(service, capsys):
    assert audit(PYTHON, *service([advisory()]))
    assert "has TEST-1; no version mends it yet" in capsys.readouterr().out


def test_a_service_that_does_not_answer_is_no_pass(capsys):
    assert audit(PYTHON, "-s", "osv", "--osv-url", "http://127.0.0.1:9/v1/query")
    said = capsys.readouterr().out
    assert "NOT AUDITED, which is not a pass: accelerate" in said
    assert "Connection refused" in said
    assert "pip-audit: audited" not in said


def test_a_wrong_option_is_no_missing_service():
    with pytest.raises(RuntimeError, match="usage"):
        audit(PYTHON, "--no-such-option")
