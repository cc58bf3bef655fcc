"""nodes/*.py -> nodes/host -> pave_core, never back; inside the core: types, config <- schedule, sde <- pave, rollout <- loss <- trainer.

Read from the syntax trees, so that an import inside a function counts too; then once for real, with the host's modules blocked.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HOST = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "comfy_api_nodes", "folder_paths", "server", "nodes", "execution", "latent_preview"}
RANK = {"errors": 0, "types": 1, "config.train": 1, "flow.schedule": 2, "flow.kernels": 2, "flow.paving": 3, "rollout.branches": 3}
RANK |= {"objective.loss": 4, "training.loop": 5}


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """(level, dotted name) of every import in a file; level counts the leading dots. `from .a import b` yields both a and a.b."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module:
                yield node.level, module
            yield from ((node.level, f"{module}.{alias.name}".lstrip(".")) for alias in node.names)


def core_imports(core: Path, file: Path) -> Iterator[str]:
    """Modules of the core (dotted below it) that a file of the core imports."""
    package = file.relative_to(core).parts[:-1]
    for level, name in imports(file):
        if level:
            target = ".".join((*package[: len(package) - level + 1], name))
            path = core.joinpath(*target.split("."))
            if path.with_suffix(".py").is_file() or (path / "__init__.py").is_file():
                yield target


def core_violations(core: Path) -> list[str]:
    """What in the core breaks the rules, one line each."""
    found = []
    graph: dict[str, set[str]] = {}
    for file in sorted(core.rglob("*.py")):
        where = file.relative_to(core)
        for level, name in imports(file):
            top = name.split(".")[0]
            if level == 0 and top in HOST:
                found.append(f"{where}: imports the host's {name}")
            if level == 0 and top == core.name:
                found.append(f"{where}: imports {name} absolutely")
            if level > len(where.parts):
                found.append(f"{where}: a relative import leaves the core: {'.' * level}{name}")
        module = ".".join(where.with_suffix("").parts).removesuffix("__init__").rstrip(".")
        if module:
            graph[module] = set(core_imports(core, file)) - {module}
    for module in graph:
        for target in reachable(graph, module):
            if target == module:
                found.append(f"{module}: imports itself in a circle")
            if RANK.get(target, 0) > RANK.get(module, max(RANK.values())):
                found.append(f"{module}: depends on {target}, which is above it")
    return found


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Every module that `start` imports, also through others."""
    seen: set[str] = set()
    todo = list(graph[start])
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo += graph.get(module, ())
    return seen


def node_violations(nodes: Path) -> list[str]:
    """Imports of the host in nodes/*.py outside nodes/host; comfy_api.latest is what V3 nodes are written in."""
    return [
        f"{file.relative_to(nodes)}: imports the host's {name}"
        for file in sorted(nodes.rglob("*.py"))
        if file.relative_to(nodes).parts[0] != "host"
        for level, name in imports(file)
        if level == 0 and name.split(".")[0] in HOST and not name.startswith("comfy_api.latest") and name != "comfy_api"
    ]


def test_the_core_keeps_its_layers(root):
    assert core_violations(root / "pave_core") == []


def test_only_nodes_host_imports_the_host(root):
    assert node_violations(root / "nodes") == []
    assert list((root / "nodes" / "host").glob("*.py")), "nodes/host is where the host may be imported: has it moved?"


def test_every_ranked_module_exists(root):
    assert [name for name in RANK if not (root / "pave_core" / f"{name.replace('.', '/')}.py").is_file()] == []


def test_the_scan_finds_what_it_looks_for(tmp_path):
    core, nodes = tmp_path / "pave_core", tmp_path / "nodes"
    (core / "rewards").mkdir(parents=True)
    nodes.mkdir()
    (core / "__init__.py").write_text("")
    (core / "errors.py").write_text("")
    (core / "objective").mkdir()
    (core / "objective" / "loss.py").write_text("from ..errors import PaveError")
    (core / "helper.py").write_text("from .objective import loss")
    (core / "flow").mkdir()
    (core / "flow" / "kernels.py").write_text("def f():\n    from .. import helper")
    (core / "config.py").write_text("import comfy.utils\nimport pave_core.errors")
    (core / "optim.py").write_text("from . import lora")
    (core / "lora.py").write_text("from .optim import x")
    (core / "rewards" / "__init__.py").write_text("from ..errors import PaveError")
    (core / "rewards" / "base.py").write_text("from ...nodes import train\nimport folder_paths")
    (nodes / "train.py").write_text("from comfy_api.latest import io\nfrom comfy import utils")

    found = core_violations(core)

    assert "config.py: imports the host's comfy.utils" in found
    assert "config.py: imports pave_core.errors absolutely" in found
    assert f"{Path('rewards/base.py')}: a relative import leaves the core: ...nodes" in found
    assert f"{Path('rewards/base.py')}: imports the host's folder_paths" in found
    assert "flow.kernels: depends on objective.loss, which is above it" in found
    assert "optim: imports itself in a circle" in found
    assert not [line for line in found if line.startswith(("loss", "rewards:", f"{Path('rewards/__init__.py')}"))]
    assert node_violations(nodes) == ["train.py: imports the host's comfy", "train.py: imports the host's comfy.utils"]


def test_the_core_imports_with_the_host_blocked(root):
    code = f"""
import pkgutil, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HOST!r}:
            raise ImportError(f"the core imported the host's {{name}}")

sys.meta_path.insert(0, Block())
sys.path.insert(0, {str(root / "tools")!r})
from _host.package import load_core
core = load_core()
names = [m.name for m in pkgutil.walk_packages(core.__path__, "pave_core.")]
for name in names:
    __import__(name)
print(len(names))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= len(RANK)
