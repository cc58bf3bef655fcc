"""Checks workflows in the page's format (LiteGraph, version 0.4) against a real ComfyUI, without running them.

    python tools/validate_workflow.py FILES...                              start the private ComfyUI and ask it
    python tools/validate_workflow.py --url http://127.0.0.1:8188 FILES...  ask one that is already running

First the file itself is checked: its ids, the links, which must agree at both ends, and that they form no circle. A
file that contradicts itself is not checked further. Then every node is checked that the page would send, which leaves
out muted and bypassed ones: its type, its slots, the types of its links, its required inputs, and the values of its
widgets.

Whether a file that a combo names is there depends on the machine. Two kinds of values that are not among the options
are therefore notes, "needs the file X", and not problems: names that end as those of model files do, and any value of
a combo with an upload button. Options that the page fetches by itself make a note too.

Left out: inputs that a node grows on the page (V3's Autogrow and DynamicCombo), and the widgets that extensions of
the page give to stock audio, 3D and webcam nodes. They are reported as inputs or values too many, never ignored.

Exit code: 0 without problems, whatever the notes; 1 with problems, or when no ComfyUI answers; 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _host.environment import prepare
from _host.server import ServerError, end_on_sigterm
from _host.setup import SetupError
from _host.throwaway import throwaway_server
from _workflows.in_file import Graph, file_findings
from _workflows.on_host import Note, ObjectInfo, host_findings


@dataclass(frozen=True)
class Report:
    """What there is to say about a workflow."""

    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a running ComfyUI, instead of the private one")
    parser.add_argument("files", type=Path, nargs="+", metavar="FILES")
    args = parser.parse_args()
    end_on_sigterm()
    try:
        object_info = ask(args.url)
    except (SetupError, ServerError) as error:
        print(error, file=sys.stderr)
        return 1
    reports = [check(file, object_info) for file in args.files]
    counts = {
        "file": len(reports),
        "problem": sum(len(report.problems) for report in reports),
        "note": sum(len(report.notes) for report in reports),
    }
    print(", ".join(f"{count} {word}{'s' * (count != 1)}" for word, count in counts.items()))
    return 1 if counts["problem"] else 0


def ask(url: str | None) -> ObjectInfo:
    """/object_info of the ComfyUI at `url`, or of the private one with the pack."""
    if url is None:
        with throwaway_server(prepare()) as server:
            return server.client().object_info()
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/object_info", timeout=60) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        raise ServerError(f"no ComfyUI answers at {url}: {error}") from None


def check(file: Path, object_info: ObjectInfo) -> Report:
    """Print and return what there is to say about a file."""
    try:
        workflow = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        report = Report((f"cannot be read: {error.strerror}",))
    except ValueError as error:
        report = Report((f"is not JSON: {error}",))
    else:
        report = problems(workflow, object_info)
        if not report.problems:
            print(f"ok  {file} ({len(workflow['nodes'])} nodes, {len(workflow['links'])} links)")
    for line in (*report.problems, *(f"note: {note}" for note in report.notes)):
        print(f"{file}: {line}")
    return report


def problems(workflow: Any, object_info: ObjectInfo) -> Report:
    """What is wrong with a workflow, as read from its JSON, on a host with this /object_info."""
    if found := file_findings(workflow):
        return Report(tuple(found))
    found = list(host_findings(Graph(workflow), object_info))
    notes = tuple(finding for finding in found if isinstance(finding, Note))
    return Report(tuple(finding for finding in found if not isinstance(finding, Note)), notes)


if __name__ == "__main__":
    sys.exit(main())
