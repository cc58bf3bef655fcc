"""What people do with a run: open the graph that began it, read its recipe, copy its LoRA, remove its folder.

Names are those of the list, as in runs.py.
"""

from __future__ import annotations

import asyncio
import filecmp
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import folder_paths
from aiohttp import web
from server import PromptServer

from ....pave_core.errors import ConfigError, quoted
from ....pave_core.files import WriteError, reason_of
from ....pave_core.policies.lora_file import preview_file
from ....pave_core.runs.remove import remove_run
from ....pave_core.runs.shown import recipe_in, workflow_in
from .. import folders
from .acting import body_of, refused
from .live import live
from .runs import RUNS, _folder

MANY = 1000  # names that are tried for a copy


def register() -> None:
    """GET /pave/runs/NAME/workflow and recipe, POST /pave/runs/NAME/copy and delete. Once, as of routes.register."""
    routes, workflow = PromptServer.instance.routes, f"{RUNS}/{{name}}/workflow"
    if any(getattr(route, "path", None) == workflow for route in routes):
        return

    @routes.get(workflow)
    async def get_workflow(request: web.Request) -> web.Response:
        """The graph, as the page opens it."""
        return await _answered(request, _workflow)

    @routes.get(f"{RUNS}/{{name}}/recipe")
    async def get_recipe(request: web.Request) -> web.Response:
        return await _answered(request, _recipe)

    @routes.post(f"{RUNS}/{{name}}/copy")
    async def post_copy(request: web.Request) -> web.Response:
        """{"name": as Load LoRA lists it}."""
        await body_of(request, {})
        return await _answered(request, _copied)

    @routes.post(f"{RUNS}/{{name}}/delete")
    async def post_delete(request: web.Request) -> web.Response:
        """{"left": the names of what stays in the folder}."""
        await body_of(request, {})
        return await _answered(request, _removed)


async def _answered(request: web.Request, act: Callable[[Path], Mapping[str, Any]]) -> web.Response:
    """What `act` gives of the run's folder, which waits for the disk: the server goes on meanwhile."""
    name = request.match_info["name"]

    def acted() -> Mapping[str, Any]:
        folder = _folder(name)
        if folder is None:
            raise LookupError(f"there is no run {quoted(name)}")
        return act(folder)

    try:
        return web.json_response(await asyncio.get_running_loop().run_in_executor(None, acted))
    except LookupError as error:
        raise refused(web.HTTPNotFound, str(error.args[0])) from None
    except ConfigError as error:
        raise refused(web.HTTPConflict, str(error)) from None
    except (OSError, WriteError) as error:
        reason = error.reason if isinstance(error, WriteError) else reason_of(error)
        raise refused(web.HTTPInternalServerError, reason) from None


def _workflow(folder: Path) -> Mapping[str, Any]:
    found = workflow_in(folder)
    if found is None:
        raise LookupError(f"the folder of {quoted(folder.name)} has no graph that can be opened")
    return found


def _recipe(folder: Path) -> Mapping[str, Any]:
    found = recipe_in(folder, folders.places().lora(folder.name))
    if not found:
        raise LookupError(f"neither a checkpoint nor a LoRA of {quoted(folder.name)} has a recipe that can be read")
    return found


def _copied(folder: Path) -> dict[str, Any]:
    """Copy the LoRA, with the picture beside it, to where the host looks for LoRAs first. Nothing is written over."""
    lora = next(
        (file for file in (folders.places().lora(folder.name), folder / "lora.safetensors") if _is_plain(file)), None
    )
    if lora is None:
        raise LookupError(f"there is no LoRA of {quoted(folder.name)}")
    place = Path(folder_paths.get_folder_paths("loras")[0])
    place.mkdir(parents=True, exist_ok=True)
    for number in range(1, MANY):
        name = folder.name if number == 1 else f"{folder.name}_{number}"
        file = place / f"{name}.safetensors"
        if _is_plain(file) and filecmp.cmp(lora, file, shallow=False):
            return {"name": file.name, "new": False}
        if file.name not in folder_paths.get_filename_list("loras") and _new(file, lora):
            if _is_plain(preview_file(lora)):
                _new(preview_file(file), preview_file(lora))
            return {"name": file.name, "new": True}
    raise ConfigError(f"lora: there are {MANY} copies of {quoted(folder.name)} already: remove some")


def _new(file: Path, source: Path) -> bool:
    """Copy `source` to `file`, whole or not at all; False if there is one of this name."""
    try:
        file.open("xb").close()  # so that nobody else takes the name
    except FileExistsError:
        return False
    part = file.with_name(f"{file.name}.part")
    try:
        shutil.copyfile(source, part)
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        raise
    return True


def _is_plain(file: Path) -> bool:
    return file.is_file() and not file.is_symlink()


def _removed(folder: Path) -> dict[str, Any]:
    now = live()
    if now is not None and now.name == folder.name:
        raise ConfigError(f"run: {quoted(folder.name)} trains: stop it first")
    return {"left": remove_run(folder)}
