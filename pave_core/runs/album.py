"""The small pictures in a run's folder, which show how it has learnt when all else of it is gone from memory.

<run>/measured/STEP_PLACE.jpg    the image of one held-out prompt and seed, the same for all steps of a place
<run>/measured/measured.json     the prompt and the seed of each place
<run>/group/STEP_PLACE.jpg       the images of the group that was compared last
<run>/group/group.json           its step and prompt, and what each of its images was given, the best first

What is read here may be damaged or a stranger's: it is checked, and what is none of this is not there.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import shortened
from ..evaluation.evaluate import Evaluation
from ..files import finite, write_atomically
from ..images import thumbnail
from ..training.metrics import Group

MEASURED, GROUP = "measured", "group"
"""The folders."""
SIDE = 512
"""Pixels of the longer side of a picture, at the most."""
TOGETHER = 2_000_000
"""Bytes of the pictures of a step, at the most."""
MOST_STEPS = 32
"""The measured steps whose pictures are kept."""
MOST_IMAGES, MAX_TEXT, MAX_JSON = 1000, 10_000, 4_000_000  # of what is read: images, characters of a prompt, bytes
_PICTURE = re.compile(r"(0|[1-9][0-9]{0,8})_(0|[1-9][0-9]{0,3})\.jpg")


def save_measured(folder: Path, step: int, evaluation: Evaluation) -> None:
    """Keep a picture of each prompt that `evaluation` kept images of, from its first seed. WriteError.

    Of more than MOST_STEPS steps those are dropped that leave the smallest gap: the first, the last and evenly among
    them stay.
    """
    kept = range(len(evaluation.prompts)) if evaluation.kept is None else evaluation.kept
    first = {evaluation.prompts[i]: i for i in reversed(kept)}
    places = [first[prompt] for prompt in dict.fromkeys(evaluation.prompts[i] for i in kept)]
    said = [{"prompt": evaluation.prompts[i], "seed": evaluation.seeds[i]} for i in places]
    write_atomically(folder / MEASURED / "measured.json", json.dumps(said).encode())
    _save(folder / MEASURED, step, [evaluation.image(i) for i in places])
    _keep(folder / MEASURED, thinned(steps_measured(folder)))


def thinned(steps: Iterable[int]) -> list[int]:
    """Those of the steps that are kept: at most MOST_STEPS."""
    left = sorted(steps)
    while len(left) > MOST_STEPS:
        del left[min(range(1, len(left) - 1), key=lambda i: left[i + 1] - left[i - 1])]
    return left


def steps_measured(folder: Path) -> list[int]:
    """The measured steps whose pictures are there."""
    return sorted({step for step, _ in _pictures(folder / MEASURED)})


def measured_of(folder: Path) -> dict[str, Any]:
    """{"places": [{"prompt", "seed"}], "steps": [...]} of the pictures that are there."""
    said = _json(folder / MEASURED / "measured.json", list)[:MOST_IMAGES]
    places = [
        {"prompt": shortened(each["prompt"], MAX_TEXT), "seed": each["seed"]}
        for each in said
        if isinstance(each, dict) and isinstance(each.get("prompt"), str) and type(each.get("seed")) is int
    ]
    whole = len(places) == len(said)  # else a number would be that of another place
    return {"places": places if whole else [], "steps": steps_measured(folder) if whole else []}


def save_group(folder: Path, step: int, group: Group) -> None:
    """Keep the group that was compared in `step` in place of the one before. WriteError."""
    _save(folder / GROUP, step, group.images)
    write_atomically(folder / GROUP / "group.json", json.dumps(described(step, group)).encode())
    _keep(folder / GROUP, [step])


def described(step: int, group: Group) -> dict[str, Any]:
    """{"step", "prompt", "images": [{"place", "advantage", "scores"}]}, the best first, as JSON values."""
    order = sorted(range(len(group.advantages)), key=lambda i: group.advantages[i], reverse=True)
    images = [
        {
            "place": i,
            "advantage": group.advantages[i],
            "scores": {reward: scores[i] for reward, scores in group.scores.items()},
        }
        for i in order
    ]
    return finite({"step": step, "prompt": group.prompt, "images": images})


def group_in(folder: Path) -> dict[str, Any] | None:
    """The group that was compared last, as described(); None where there is none, or no whole one."""
    said = _json(folder / GROUP / "group.json", dict)
    step, prompt, images = said.get("step"), said.get("prompt"), said.get("images")
    if type(step) is not int or not isinstance(prompt, str) or not isinstance(images, list):
        return None
    there = {place for at, place in _pictures(folder / GROUP) if at == step}
    if len(images) > MOST_IMAGES or not images or not all(_is_image(image, there) for image in images):
        return None
    return {"step": step, "prompt": shortened(prompt, MAX_TEXT), "images": images}


def _is_image(value: Any, there: set[int]) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"place", "advantage", "scores"}
        and type(value["place"]) is int
        and value["place"] in there
        and _is_number(value["advantage"])
        and isinstance(value["scores"], dict)
        and all(map(_is_number, value["scores"].values()))
    )


def picture_in(folder: Path, of: str, step: str, place: str) -> Path | None:
    """The file of a picture in one of the two folders, by the numbers in its name; None where there is none."""
    name = f"{step}_{place}.jpg"
    if of not in (MEASURED, GROUP) or not _PICTURE.fullmatch(name) or (folder / of).is_symlink():
        return None
    file = folder / of / name
    return file if _is_plain(file, TOGETHER) else None


def _save(folder: Path, step: int, images: Sequence[Tensor] | Tensor) -> None:
    for place, image in enumerate(images):
        write_atomically(folder / f"{step}_{place}.jpg", thumbnail(image, SIDE, TOGETHER // len(images)))


def _keep(folder: Path, steps: Sequence[int]) -> None:
    """Remove the pictures of all other steps."""
    for step, place in _pictures(folder):
        if step not in steps:
            with contextlib.suppress(OSError):  # it goes with the next one
                (folder / f"{step}_{place}.jpg").unlink()


def _pictures(folder: Path) -> list[tuple[int, int]]:
    """(step, place) of each picture in a folder."""
    if folder.is_symlink():
        return []
    with contextlib.suppress(OSError):
        found = (_PICTURE.fullmatch(path.name) for path in folder.iterdir())
        return [(int(match[1]), int(match[2])) for match in found if match]
    return []


def _json(file: Path, kind: type[Any]) -> Any:
    """The content of a JSON file; an empty `kind` where it is none of this kind."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if not file.parent.is_symlink() and _is_plain(file, MAX_JSON):
            value = json.loads(file.read_text("utf-8"))
            if isinstance(value, kind):
                return value
    return kind()


def _is_plain(file: Path, most: int) -> bool:
    """Whether it is a plain file, and neither a link nor a pipe, of at most so many bytes."""
    return file.is_file() and not file.is_symlink() and file.stat().st_size <= most


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and abs(value) < float("inf"))
