"""Which way imports go: every module of the core and of the nodes stands on a floor, and imports from its own floor or
below.

Read from the syntax trees, so that an import inside a function counts too; then once for real, with the host's modules
blocked.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

HOST = {
    *("comfy", "comfy_api", "comfy_execution", "comfy_extras", "comfy_api_nodes", "comfyui_version"),
    *("folder_paths", "server", "nodes", "execution", "latent_preview", "node_helpers"),
}
FLOORS = (
    # the ground: used by all
    ("pave_core", "pave_core.errors", "pave_core.seeds", "pave_core.types"),
    ("pave_core.batches", "pave_core.files", "pave_core.images", "pave_core.packages"),
    # the method
    ("pave_core.config.*",),
    ("pave_core.memory.*",),
    ("pave_core.flow.*",),
    ("pave_core.scoring.*",),
    ("pave_core.rewards.networks.*", "pave_core.rewards.http.*"),
    ("pave_core.rewards.*",),
    ("pave_core.person.*",),
    ("pave_core.rollout.*",),
    ("pave_core.objective.*",),
    ("pave_core.policies.*",),
    ("pave_core.policies.diffusers.*",),
    ("pave_core.training.*",),
    # what is made of it
    ("pave_core.evaluation.*",),
    ("pave_core.pictures.*",),
    ("pave_core.runs.*",),
    # the host
    ("nodes.host.policy.autograd.*",),
    ("nodes.host.*", "nodes.host.graphs.*", "nodes.host.panel.*", "nodes.host.policy.*"),
    ("nodes.host.preflight",),
    ("nodes.host.train", "nodes.host.compare", "nodes.host.reward_check"),
    ("nodes.host.steps.*",),
    ("nodes.host.door",),
    # the nodes
    ("nodes.shared.*",),
    ("nodes.*", "nodes.rewards.*", "nodes.steps.*"),
    ("nodes.extension",),
)
"""From below: modules, and folders ("a.*": the modules straight in a, and a itself)."""


def modules_below(root: Path) -> dict[str, Path]:
    """{dotted name: file} of every module of the core and of the nodes; a package is its __init__.py."""
    files = [file for top in ("pave_core", "nodes") for file in sorted((root / top).rglob("*.py"))]
    return {".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def floor(module: str) -> int | None:
    """The number of the floor that a module stands on: its own, else its folder's."""
    for name in (module, f"{module}.*", f"{module.rpartition('.')[0]}.*"):
        for number, names in enumerate(FLOORS):
            if name in names:
                return number
    return None


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """(level, dotted name) of every import in a file; level counts the leading dots.

    `from .a import b` yields a and a.b.
    """
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if module:
                yield node.level, module
            yield from ((node.level, f"{module}.{alias.name}".lstrip(".")) for alias in node.names)


def own_imports(modules: Mapping[str, Path], module: str) -> set[str]:
    """The modules of ours that a module imports; the packages on the way to them do not count."""
    file = modules[module]
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    found = {".".join((*package[: len(package) - level + 1], name)) for level, name in imports(file) if level}
    known = found & modules.keys()
    return {name for name in known if not any(other.startswith(f"{name}.") for other in known)} - {module}


def violations(root: Path) -> list[str]:
    """What breaks the rules, one line each."""
    modules = modules_below(root)
    graph = {module: own_imports(modules, module) for module in modules}
    found = []
    for module, file in modules.items():
        here = floor(module)
        if here is None:
            found.append(f"{module}: stands on no floor")
            continue
        for target in sorted(graph[module]):
            there = floor(target)
            if there is not None and there > here:
                found.append(f"{module}: imports {target}, which is above it")
        if module in reachable(graph, module):
            found.append(f"{module}: imports itself in a circle")
        found += [f"{module}: {problem}" for problem in foreign(module, file)]
    return found


def foreign(module: str, file: Path) -> Iterator[str]:
    """Imports of the host where it may not be, and ways around the package."""
    depth = len(module.split(".")) - (file.name != "__init__.py")
    for level, name in imports(file):
        top = name.split(".")[0]
        if level > depth + 1 or (module.startswith("pave_core") and level > depth):
            yield f"a relative import leaves the package: {'.' * level}{name}"
        if level:
            continue
        if top == "pave_core":
            yield f"imports {name} absolutely"
        in_schema = name.startswith("comfy_api.latest") or name == "comfy_api"  # what V3 nodes are written in
        allowed = module.startswith("nodes.host") or (module.startswith("nodes") and in_schema)
        if top in HOST and not allowed:
            yield f"imports the host's {name}"


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """Every module that `start` imports, also through others."""
    seen: set[str] = set()
    todo = list(graph[start])
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo += graph.get(module, ())
    return seen


def test_every_module_stands_on_a_floor_and_imports_only_from_there_and_below(root):
    modules = modules_below(root)
    assert violations(root) == []
    assert len(modules) == len([*(root / "pave_core").rglob("*.py"), *(root / "nodes").rglob("*.py")]) > 100
    print(f"{len(modules)} modules on {len(FLOORS)} floors")


def test_every_floor_is_a_module_or_a_folder(root):
    modules = modules_below(root)
    assert [name for names in FLOORS for name in names if name.removesuffix(".*") not in modules] == []


PLANTED = {
    "pave_core/errors.py": "",
    "pave_core/flow/kernels.py": "def f():\n    from ..objective import loss",
    "pave_core/flow/__init__.py": "",
    "pave_core/objective/__init__.py": "",
    "pave_core/objective/loss.py": "from ..errors import PaveError",
    "pave_core/training/optimizer.py": "from . import state",
    "pave_core/training/state.py": "from .optimizer import x",
    "pave_core/config/train.py": "import comfy.utils\nimport pave_core.errors",
    "pave_core/scoring/score.py": "from ...nodes import train\nimport folder_paths",
    "nodes/train.py": "from comfy_api.latest import io\nfrom comfy import utils",
    "nodes/shared/presets.py": "",
    "nodes/host/panel/routes.py": "import server\nfrom ...shared import presets",
    "elsewhere.py": "",
}


def test_the_scan_finds_what_it_looks_for(tmp_path):
    for name, text in PLANTED.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    found = violations(tmp_path)

    assert sorted(found) == [
        "nodes.host.panel.routes: imports nodes.shared.presets, which is above it",
        "nodes.train: imports the host's comfy",
        "nodes.train: imports the host's comfy.utils",
        "pave_core.config.train: imports pave_core.errors absolutely",
        "pave_core.config.train: imports the host's comfy.utils",
        "pave_core.flow.kernels: imports pave_core.objective.loss, which is above it",
        "pave_core.scoring.score: a relative import leaves the package: ...nodes",
        "pave_core.scoring.score: a relative import leaves the package: ...nodes.train",
        "pave_core.scoring.score: imports nodes.train, which is above it",
        "pave_core.scoring.score: imports the host's folder_paths",
        "pave_core.training.optimizer: imports itself in a circle",
        "pave_core.training.state: imports itself in a circle",
    ]


def test_a_module_without_a_floor_is_found(tmp_path):
    for file in ("new.py", "flow/kernels.py", "flow/deep/kernels.py"):
        (tmp_path / "pave_core" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pave_core" / file).write_text("")
    assert sorted(violations(tmp_path)) == [
        "pave_core.flow.deep.kernels: stands on no floor",
        "pave_core.new: stands on no floor",
    ]


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
    core = [module for module in modules_below(root) if module.startswith("pave_core.")]
    assert int(done.stdout) == len(core)
