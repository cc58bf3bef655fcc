"""Known vulnerabilities of what our requirements install, by pip-audit, at the versions that are installed here.

What the host and its other packs bring is theirs to audit. A finding with a version that mends it fails the run; one
without is said. pip-audit says "No known vulnerabilities found" of packages that its service does not know, and an
index that copies PyPI may know none: here that is said too, and is not a pass.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from _host.install import requirement_name
from _host.package import ROOT

REQUIREMENTS = ("requirements.txt", "requirements-ocr.txt")
_LIMIT = 60
"""Seconds."""


def audit(python: Path, *service: str) -> bool:
    """Print what is known of our requirements. False if one can be mended. service: options that name another one."""
    lines = [line for file in REQUIREMENTS for line in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    names = [name.lower().replace("_", "-") for name in map(requirement_name, lines) if name]
    pinned = json.loads(_output(python, "-c", _VERSIONS, *names))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text("\n".join(f"{name}=={version}" for name, version in pinned.items()), encoding="utf-8")
        options = ("--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "10", "--format", "json")
        try:
            said = _output(python, "-m", "pip_audit", "-r", str(file), *options, *service)
            found = json.loads(said)["dependencies"]
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            found, why = [], str(error)
        else:
            why = "the service does not know them"
    known = [each for each in found if "skip_reason" not in each]
    missing = sorted(set(names) - {each["name"] for each in known})
    if missing:
        print(f"pip-audit: NOT AUDITED, which is not a pass: {', '.join(missing)}. {_last_line(why)}", flush=True)
    if known:
        print(f"pip-audit: audited {', '.join(each['name'] + ' ' + each['version'] for each in known)}", flush=True)
    mendable = [_report(each, finding) for each in known for finding in each["vulns"]]
    return not any(mendable)


def _report(package: dict[str, Any], finding: dict[str, Any]) -> bool:
    """Print a finding. Whether a version mends it."""
    mended = finding["fix_versions"]
    remedy = f"mended in {', '.join(mended)}: raise the bound" if mended else "no version mends it yet"
    print(f"pip-audit: {package['name']} {package['version']} has {finding['id']}; {remedy}", flush=True)
    return bool(mended)


def _output(python: Path, *arguments: str) -> str:
    """What Python prints. ValueError, with its last words, if it prints nothing; RuntimeError for wrong arguments."""
    done = subprocess.run([str(python), *arguments], capture_output=True, text=True, timeout=_LIMIT)
    if done.returncode == 2:
        raise RuntimeError(done.stderr)
    if not done.stdout.strip():
        raise ValueError(done.stderr.strip() or f"exit code {done.returncode}")
    return done.stdout


def _last_line(text: str) -> str:
    return text.splitlines()[-1][:300]


_VERSIONS = """
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps(found))
"""
"""Prints the versions of the packages that it is given, as JSON."""
