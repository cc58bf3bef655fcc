"""What runs code or starts programs in Python, found in the syntax of a source text.

Names are followed through imports (`from os import system as s`) and through getattr with a plain name. A name counts
wherever it stands, also where it is not called.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

BUILTINS = ("eval", "exec", "compile", "__import__", "__builtins__", "breakpoint")
FORBIDDEN = (
    *(f"builtins.{name}" for name in BUILTINS),
    *(f"pickle.{name}" for name in ("load", "loads", "Unpickler", "_Unpickler", "_load", "_loads")),
    *("marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle", "runpy", "pty", "code", "ctypes", "cffi"),
    *("subprocess", "os.system", "os.popen", "os.startfile", "os.fork", "os.forkpty", "asyncio.create_subprocess_exec"),
    *("os.execv", "os.execve", "os.execl", "os.execle", "os.execlp", "os.execlpe", "os.execvp", "os.execvpe"),
    *("os.spawnl", "os.spawnle", "os.spawnlp", "os.spawnlpe", "os.spawnv", "os.spawnve", "os.spawnvp", "os.spawnvpe"),
    *("os.posix_spawn", "os.posix_spawnp", "asyncio.create_subprocess_shell", "webbrowser"),
    *(
        "pip",
        "ensurepip",
        "setuptools",
        "pkg_resources",
        "importlib.machinery",
        "importlib.util.spec_from_file_location",
    ),
    *(
        "importlib.util.module_from_spec",
        "importlib.reload",
        "imp",
        "zipimport",
        "types.FunctionType",
        "types.CodeType",
    ),
    *("torch.jit", "torch.hub", "torch.package", "torch.ops.load_library", "torch.classes.load_library"),
    *("torch.serialization.add_safe_globals", "torch.serialization.safe_globals", "torch.utils.cpp_extension"),
    *("pandas.read_pickle", "numpy.lib.format", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.Loader"),
    *("shutil.unpack_archive", "tarfile", "comfy.utils.load_torch_file.unsafe"),
)
"""Names, and everything below them."""
ONLY_WITH = {"torch.load": ("weights_only", True)}
"""Functions that are allowed where they are called with this keyword, given as a constant."""
NEVER_WITH = {"allow_pickle": True, "trust_remote_code": True, "weights_only": False, "shell": True, "safe_load": False}
"""Keywords that no call may give, or give as anything but a constant."""
CONSTANT_FIRST = ("importlib.import_module",)
"""Functions whose first argument must stand in the source."""


def found_in(source: str) -> list[str]:
    """ "line: what" for each place that is not allowed."""
    tree = ast.parse(source)
    known = dict(_imported(tree))
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = []
    for node in ast.walk(tree):
        name = _name(node, known)
        if name is not None:
            call = calls.get(id(node))
            if _is_forbidden(name) or (name in ONLY_WITH and not _has(call, *ONLY_WITH[name])):
                found.append(f"{node.lineno}: {name}")
            if name in CONSTANT_FIRST and not (call and call.args and isinstance(call.args[0], ast.Constant)):
                found.append(f"{node.lineno}: {name} of a name that is computed")
        if isinstance(node, ast.Call):
            found += [f"{node.lineno}: {each.arg}=" for each in node.keywords if _is_unsafe(each)]
            if _name(node.func, known) == "builtins.getattr" and len(node.args) > 1:
                owner, leaf = _name(node.args[0], known), node.args[1]
                if owner and isinstance(leaf, ast.Constant) and _is_forbidden(f"{owner}.{leaf.value}"):
                    found.append(f"{node.lineno}: {owner}.{leaf.value}")
        if isinstance(node, ast.Import):
            found += [f"{node.lineno}: {each.name}" for each in node.names if _is_forbidden(each.name)]
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            whole = [f"{node.module}.{each.name}" for each in node.names]
            found += [f"{node.lineno}: {name}" for name in whole if _is_forbidden(name)]
    return found


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(the name in the source, what it stands for)."""
    yield from ((name, f"builtins.{name}") for name in (*BUILTINS, "getattr"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                yield each.asname or each.name.split(".")[0], each.name if each.asname else each.name.split(".")[0]
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for each in node.names:
                yield each.asname or each.name, f"{node.module}.{each.name}"


def _name(node: ast.AST, known: dict[str, str]) -> str | None:
    """The dotted name of an expression, with what was imported in the place of its first part."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _name(node.value, known)
        return None if owner is None else f"{owner}.{node.attr}"
    return None


def _is_forbidden(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in FORBIDDEN)


def _has(call: ast.Call | None, keyword: str, value: object) -> bool:
    given = [] if call is None else [each.value for each in call.keywords if each.arg == keyword]
    return any(isinstance(each, ast.Constant) and each.value is value for each in given)


def _is_unsafe(keyword: ast.keyword) -> bool:
    if keyword.arg not in NEVER_WITH:
        return False
    return not isinstance(keyword.value, ast.Constant) or keyword.value.value is NEVER_WITH[keyword.arg]
