"""Weight files from a stranger, and every reader of ours that may meet one.

The readers run in a process of their own, which may hang or die:

    python _hostile_files.py FOLDER       answers each line [reader, name of a file in FOLDER], in JSON, with a line

Code in a file, if it ran, would make the file FOLDER/canary.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import shutil
import struct
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "assets" / "tiny"
BOMB = 2**29
"""Bytes that a zip bomb of half a MB unpacks to."""
CUTS = 20


class Code:
    """What a pickle would run: it makes the canary."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def pickles(canary: Path) -> Iterator[tuple[str, bytes]]:
    """Pickles that run code, in all protocols, by several ways, and in several wrappings."""
    script = f"open({str(canary)!r}, 'w').close()"
    plain = Code(exec, script)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield f"pickle, protocol {protocol}", pickle.dumps({"weight": torch.ones(3), "x": plain}, protocol)
        yield f"bare pickle, protocol {protocol}", pickle.dumps(plain, protocol)
    ways = {
        "os.system": Code(os.system, f"touch {canary}"),
        "eval": Code(eval, f"open({str(canary)!r}, 'w')"),
        "Path.touch": Code(Path.touch, canary),
        "shutil.copy": Code(shutil.copy, __file__, str(canary)),
        "nested in a storage": Code(torch.storage._load_from_bytes, _saved(plain)),
        "a whole module": nn.Linear(2, 2),
    }
    for name, way in ways.items():
        yield f"torch.save, {name}", _saved({"weight": torch.ones(3), "x": way})
        yield f"torch.save of old, {name}", _saved({"weight": torch.ones(3), "x": way}, old=True)
    yield "pickle after a safetensors header", save({"weight": torch.ones(3)}) + pickle.dumps(plain)
    yield "pickle in safetensors' metadata", save({"weight": torch.ones(3)}, {"x": pickle.dumps(plain, 0).decode()})
    script_module = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), script_module)
    yield "TorchScript", script_module.getvalue()


def zips() -> Iterator[tuple[str, bytes]]:
    """Archives that are not what they say."""
    whole = _saved({"weight": torch.zeros(4096)})
    yield "zip bomb, the pickle", _rezipped(whole, {"data.pkl": bytes(BOMB)})
    yield "zip bomb, a tensor", _rezipped(whole, {"data/0": bytes(BOMB)})
    yield "zip, paths outside", _zipped({"../../canary": b"x", "/canary": b"x", "archive/data.pkl": b"\x80\x02}."})
    yield "zip, nothing", _zipped({})
    yield "zip, a storage too short", _rezipped(whole, {"data/0": b"1234"})
    yield "zip, another byte order", _rezipped(whole, {"byteorder": b"middle"})
    yield "zip, many entries", _zipped({f"archive/data/{i}": b"" for i in range(60_000)})


def safetensors() -> Iterator[tuple[str, bytes]]:
    """Headers that lie."""

    def file(header: Any, data: bytes = bytes(64)) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    def of(shape: Any, offsets: Any, dtype: Any = "F32") -> dict[str, Any]:
        return {"weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}

    good = of([4], [0, 16])
    for power in (31, 39, 63):
        yield f"header of 2^{power} bytes", struct.pack("<Q", 2**power) + b'{"weight": {}}' + bytes(64)
    yield "tensor of 2^42 bytes", file(of([2**40], [0, 2**42]))
    yield "tensor of 2^66 bytes", file(of([2**32, 2**32], [0, 64]))
    yield "shape that overflows to fit", file(of([2**62, 4, 4], [0, 64]))
    yield "negative shape", file(of([-4], [0, 16]))
    yield "offsets that overlap", file(good | {"b": good["weight"]})
    yield "offsets with a hole", file({"a": good["weight"], **{"b": of([4], [32, 48])["weight"]}})
    yield "offsets the wrong way", file(of([4], [16, 0]))
    yield "offsets beyond the end", file(of([400], [0, 1600]))
    yield "unknown dtype", file(of([4], [0, 16], "F33"))
    yield "no dtype", file({"weight": {}})
    yield "keys twice", file(b'{"weight":%s,"weight":%s}' % ((json.dumps(good["weight"]).encode(),) * 2), bytes(16))
    yield "header is no JSON", file(b"{weight: yes}")
    yield "header is a list", file(b"[1, 2, 3]")
    yield "header is deep", file(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    yield "header of 99 MB of blanks", file(json.dumps(good).encode() + b" " * 99_000_000, bytes(16))
    yield "header of 101 MB of blanks", file(json.dumps(good).encode() + b" " * 101_000_000, bytes(16))
    empty = ",".join(f'"w{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for i in range(400_000))
    yield "400,000 tensors of nothing", file(f"{{{empty}}}".encode(), b"")
    yield "metadata of numbers", file(good | {"__metadata__": {"format": 1}}, bytes(16))
    yield "metadata is deep", save({"weight": torch.ones(4)}, _records("[" * 100_000 + "]" * 100_000))
    yield "metadata of wrong types", save({"weight": torch.ones(4)}, _records("[1, 2]"))
    yield "metadata of numbers too long", save({"weight": torch.ones(4)}, _records('{"step": 1' + "0" * 20_000 + "}"))
    yield "metadata of 20 MB", save({"weight": torch.ones(4)}, _records(json.dumps({"config": "x" * 20_000_000})))
    yield "names that are no names", save({"\x00\ud7ff/../..": torch.ones(4), "": torch.ones(1)})
    yield "not a number", save({"weight": torch.full((4,), torch.nan)})


def _records(text: str) -> dict[str, str]:
    """Metadata in which a checkpoint's and a recipe's record is `text`."""
    return {"format": "pave-checkpoint-1", "pave": text, "pave_recipe": text}


def others() -> Iterator[tuple[str, bytes]]:
    yield "empty", b""
    yield "one byte", b"\x80"
    yield "nine bytes", struct.pack("<Q", 1) + b"{"
    yield "text", b"a text of some length, which holds no weights"
    yield "JSON, deep", b"[" * 200_000 + b"]" * 200_000
    yield "JSON, a long number", b'{"model_cfg": ' + b"9" * 100_000 + b"}"
    yield (
        "JSON, wrong types",
        b'{"model_cfg": {"vision_cfg": {"layers": "many"}, "text_cfg": {"width": -1}, "embed_dim": 1e300}}',
    )
    yield "JSON, a huge network", json.dumps({"model_cfg": _config(vision={"width": 2**22, "layers": 2**20})}).encode()
    yield "JSON, code for names", json.dumps({"model_cfg": _config(text={"hf_model_name": "../../x"})}).encode()
    yield "not UTF-8", b"\xff\xfe\xfa" * 1000
    yield "a line of 30 MB", b"x" * 30_000_000


def _config(vision: Any = None, text: Any = None) -> dict[str, Any]:
    config = json.loads((TINY / "open_clip_config.json").read_text("utf-8"))["model_cfg"]
    return config | {"vision_cfg": config["vision_cfg"] | (vision or {}), "text_cfg": config["text_cfg"] | (text or {})}


def cut(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """A good file, truncated at every twentieth."""
    yield from ((f"{name}, {i}/{CUTS} of it", data[: len(data) * i // CUTS]) for i in range(1, CUTS))


def _saved(content: Any, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def _zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _rezipped(whole: bytes, changed: dict[str, bytes]) -> bytes:
    """An archive of torch.save with other entries, compressed."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        names = archive.namelist()
        root = names[0].split("/")[0]
        entries = {name: archive.read(name) for name in names}
    return _zipped(entries | {f"{root}/{name}": data for name, data in changed.items()})


def special(folder: Path, count: int) -> Iterator[tuple[str, Path]]:
    """What is no plain file. count: of the names that are taken."""
    names = (folder / str(number) for number in itertools.count(count))
    for target in ("/etc/passwd", "/dev/zero", "nothing"):
        (path := next(names)).symlink_to(target)
        yield f"a link to {target}", path
    (path := next(names)).symlink_to(path)
    yield "a link to itself", path
    os.mkfifo(path := next(names))
    yield "a pipe", path
    (path := next(names)).mkdir()
    yield "a folder", path
    yield "missing", next(names)
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2**34], "data_offsets": [0, 2**36]}}).encode()
    (path := next(names)).write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, 8 + len(header) + 2**36)
    yield "64 GB of holes", path


def make(folder: Path) -> dict[str, str]:
    """Every kind of file in `folder`: its name by its kind."""
    made: dict[str, Path] = {}
    safe = save({f"blocks.{i}.weight": torch.ones(40) for i in range(40)}, {"format": "pave-checkpoint-1"})
    whole = _saved({f"blocks.{i}.weight": torch.ones(40) for i in range(40)})
    cuts = (cut("safetensors", safe), cut("torch", whole))
    for source in (pickles(folder / "canary"), zips(), safetensors(), others(), *cuts):
        for kind, data in source:
            made[kind] = folder / str(len(made))
            made[kind].write_bytes(data)
    made |= special(folder, len(made))
    return {kind: path.name for kind, path in made.items()}


SUFFIX = {"vocabulary, text": ".txt", "vocabulary, JSON": ".json", "architecture": ".json"}
"""The readers that look at a file's name; for all others it ends in .safetensors, whatever is in it."""


def readers(folder: Path) -> dict[str, Callable[[Path], Any]]:
    """{what reads: its function of a path}; a reward's other file is good, or would be read later."""
    from pave_core.rewards.aesthetic import Aesthetic, AestheticV25
    from pave_core.rewards.clip_score import CLIPScore
    from pave_core.rewards.hps import HPSv2
    from pave_core.rewards.image_reward import ImageReward, read_vocabulary
    from pave_core.rewards.networks.network import mlp
    from pave_core.rewards.pickscore import PickScore
    from pave_core.rewards.preference import TinyPreference
    from pave_core.rewards.shapes import Adherence
    from pave_core.runs.checkpoint import load_checkpoint
    from pave_core.runs.recipe import load_recipe

    v2, v25 = folder / "head_v2.pth", folder / "head_v25.pth"
    torch.save({f"layers.{k}": v for k, v in mlp(768, (0, 2, 4, 6, 7)).state_dict().items()}, v2)
    torch.save({f"scoring_head.{k}": v for k, v in mlp(1152, (0, 2, 4, 6, 8)).state_dict().items()}, v25)
    marks = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    words = folder / "words.txt"
    words.write_text("\n".join(marks.get(i, f"[unused{i}]") for i in range(30522)), "utf-8")
    later, clip, config = folder / "later", TINY / "open_clip_model.safetensors", TINY / "open_clip_config.json"
    return {
        "LoRA recipe": load_recipe,
        "checkpoint": load_checkpoint,
        "CLIP score": lambda path: CLIPScore(path, config),
        "architecture": lambda path: CLIPScore(clip, path),
        "HPS": HPSv2,
        "PickScore": PickScore,
        "aesthetic v2, head": lambda path: Aesthetic(later, path),
        "aesthetic v2, CLIP": lambda path: Aesthetic(path, v2),
        "aesthetic v2.5, head": lambda path: AestheticV25(later, path),
        "aesthetic v2.5, SigLIP": lambda path: AestheticV25(path, v25),
        "ImageReward": lambda path: ImageReward(path, words),
        "vocabulary, text": read_vocabulary,
        "vocabulary, JSON": read_vocabulary,
        "bundled preference": lambda path: TinyPreference(path, clip, config),
        "bundled classifier": Adherence,
    }


def attempt(read: Callable[[Path], Any], path: Path) -> dict[str, Any]:
    """What becomes of reading `path`."""
    from pave_core.errors import ConfigError

    _forget_peak()
    before, started = _peak(), time.perf_counter()
    try:
        read(path)
        kind, message = "accepted", ""
    except ConfigError as error:
        kind, message = "refused", str(error)
    except Exception as error:  # what must not happen, for the table
        kind, message = "raw error", f"{type(error).__name__}: {error}"[:300]
    return {"kind": kind, "message": message, "seconds": time.perf_counter() - started, "grown": _peak() - before}


def _forget_peak() -> None:
    """Let the peak of memory begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    """MB of memory at the peak, without pages that are only mapped from files."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def with_suffix(path: Path, suffix: str) -> Path:
    """`path`, renamed to end in `suffix`."""
    wanted = path.with_suffix(suffix)
    for each in ("", ".safetensors", *SUFFIX.values()):
        if os.path.lexists(now := path.with_suffix(each)):
            now.rename(wanted)
    return wanted


def main() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    from _host.package import load_core

    load_core()
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    known = readers(folder)
    known["CLIP score"](TINY / "open_clip_model.safetensors")  # libraries are loaded before anything is measured
    print(json.dumps(list(known)), flush=True)
    for line in sys.stdin:
        reader, name = json.loads(line)
        path = with_suffix(folder / name, SUFFIX.get(reader, ".safetensors"))
        print(json.dumps(attempt(known[reader], path)), flush=True)


if __name__ == "__main__":
    main()
