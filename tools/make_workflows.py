"""Writes workflows/*.json, workflows/api/*.json and the thumbnails from _workflows/.

    python tools/make_workflows.py            all of them
    python tools/make_workflows.py NAME ...   these
    python tools/make_workflows.py --run ...  and runs those of the bundled model, whose results are their thumbnails:
                                              ten minutes, without which these stay as they are

The real page of a private ComfyUI makes the nodes, so that they have the host's own sockets, widgets and sizes. Run it
after changing a workflow, a preset or the inputs of a node; browser tests compare the files with what the page exports.
"""

import io
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from _host.browser import export_prompt, load_workflow, open_page
from _host.client import ComfyClient
from _host.environment import Environment, prepare, rerun
from _host.package import ROOT, load_core
from _host.throwaway import throwaway_server
from _workflows.files import files_of
from _workflows.graph import Workflow
from _workflows.names import api_file_of, file_of

THUMBNAIL = (768, 448)
VIEW = {"scale": 1, "offset": [80, 145]}
"""What is visible when a workflow opens: its upper left, readable, clear of the page's bars.

Front end 1.32 takes it from "ds"; later ones fit a template into the view, too small to read, and web/pave_view.js then
takes it from "pave_view".
"""

BUILD = """({nodes, groups, presets}) => {
    const GAP = {x: 60, y: 64}, PAD = {x: 24, top: 76, bottom: 72}, TITLE = LiteGraph.NODE_TITLE_HEIGHT, BETWEEN = 40
    // room for the picture that these nodes show while they run
    const PREVIEW = {PaveTrain: 300, PaveTrainAdvanced: 300, PaveOptimizerStep: 300}
    // by how much Nodes 2.0 draws these higher when they have run, with what they say under their settings
    const GROWS = {
        PaveTrain: 114, PaveTrainAdvanced: 96, PaveOptimizerStep: 74, PaveCompare: 134, PaveCheckReward: 90,
        PaveBegin: 114, PaveRollout: 94, PaveScore: 94, PaveDecompositionLoss: 94, PaveFinish: 94, PaveSaveLoRA: 98,
    }
    const below = (spec, gap) => Math.max(gap, (GROWS[spec.type] ?? 0) + 12)
    // what Nodes 2.0 needs for a title; 1.32 puts a badge beside those of packs, and draws all 1.2 times as large
    const pen = document.createElement("canvas").getContext("2d")
    pen.font = "700 14px Arial, sans-serif"
    const titled = ({type, title}) => {
        const text = pen.measureText(title).width + 4
        return Math.max(60 + text, type.startsWith("Pave") ? (190 + text) / 1.2 : 0)
    }
    app.graph.clear()
    const made = new Map()
    for (const spec of nodes) {
        const node = LiteGraph.createNode(spec.type)
        if (!node) throw new Error(`no node ${spec.type}`)
        node.id = spec.id
        if (spec.title) node.title = spec.title
        app.graph.add(node)
        const preset = spec.widgets.preset
        const values = {...spec.widgets, ...(presets[spec.type]?.[preset] ?? {}), ...(preset ? {preset} : {})}
        for (const [name, value] of Object.entries(values)) {
            const widget = name ? node.widgets?.find(w => w.name === name) : node.widgets[0]
            if (!widget) throw new Error(`${spec.type} has no widget ${name}`)
            widget.value = value
        }
        const controls = (node.widgets ?? []).filter(widget => widget.name === "control_after_generate")
        for (const widget of controls) widget.value = "fixed"
        if (spec.type === "MarkdownNote") Object.assign(node, {color: "#432", bgcolor: "#653"})
        made.set(spec.id, node)
    }
    for (const spec of nodes) for (const [input, from, output] of spec.wires) {
        const source = made.get(from), target = made.get(spec.id)
        const slot = output === null ? 0 : source.outputs.findIndex(o => o.name === output)
        const place = target.inputs.findIndex(i => i.name === input)
        const wire = `${source.type}.${output} -> ${target.type}.${input}`
        if (slot < 0 || place < 0) throw new Error(`${wire}: there is no such socket`)
        if (!source.connect(slot, target, place)) throw new Error(`${wire} does not fit`)
    }
    const boxes = new Map()
    let row = 0, rowTop = 0, rowRight = 0, lowest = 0
    for (const group of groups) {
        if (group.row !== row) [row, rowTop, rowRight] = [group.row, lowest + BETWEEN, 0]
        let [left, top] = [rowRight, rowTop]
        const before = made.get(group.after), over = boxes.get(group.under)
        if (before) left = Math.max(left, before.pos[0] + before.size[0] + BETWEEN)
        if (over) [left, top] = [over.next, over.bottom + BETWEEN]
        top += group.down
        const members = nodes.filter(spec => spec.group === group.id)
        let x = left + PAD.x, bottom = top
        for (let column = 0; members.some(spec => spec.column === column); column++) {
            let y = top + PAD.top, width = 0, end = top
            const here = members.filter(spec => spec.column === column)
            for (const spec of here) {
                const node = made.get(spec.id), least = node.computeSize()
                const height = Math.max(least[1] + (PREVIEW[spec.type] ?? 0), spec.size?.[1] ?? 0)
                node.setSize([Math.ceil(Math.max(least[0], titled(node), spec.size?.[0] ?? 250)), height])
                width = Math.max(width, node.size[0])
            }
            for (const spec of here) {
                const node = made.get(spec.id)
                node.setSize([width, node.size[1]])
                node.pos = [Math.round(x), Math.round(y)]
                end = y + node.size[1] + below(spec, PAD.bottom)
                y += node.size[1] + TITLE + below(spec, GAP.y)
            }
            bottom = Math.max(bottom, end)
            x += width + GAP.x
        }
        const box = new LiteGraph.LGraphGroup(group.title, group.id)
        Object.assign(box, {color: group.colour, font_size: 24})
        const right = x - GAP.x + PAD.x
        Object.assign(box, {pos: [left, top], size: [right - left, bottom - top]})
        app.graph.add(box)
        boxes.set(group.id, {bottom, next: left})
        if (over) over.next = right + BETWEEN
        rowRight = Math.max(rowRight, right + BETWEEN)
        lowest = Math.max(lowest, bottom)
    }
}"""

MEASURE = """() => {
    const at = ({pos: [x, y], size: [width, height]}) => [x, y - LiteGraph.NODE_TITLE_HEIGHT, x + width, y + height]
    const wire = link => {
        const start = app.graph.getNodeById(link.origin_id).getConnectionPos(false, link.origin_slot)
        const end = app.graph.getNodeById(link.target_id).getConnectionPos(true, link.target_slot)
        return {
            id: link.id, origin: link.origin_id, start: [...start], target: link.target_id, end: [...end],
            slot: link.origin_slot,
        }
    }
    const boxes = app.graph.nodes.map(node => [node.id, at(node)])
    return {boxes, wires: [...app.graph.links.values()].map(wire)}
}"""
"""The boxes of the nodes with their title bars, and the wires."""

ROUTE = """({reroutes, last}) => {
    for (const [id, parent, pos, linkIds] of reroutes) {
        app.graph.setReroute({id, parentId: parent ?? undefined, pos, linkIds})
    }
    for (const [link, reroute] of last) app.graph.links.get(link).parentId = reroute
}"""

NO_DIALOG = "app.extensionManager.setting.set('Comfy.Workflow.ShowMissingModelsWarning', false)"
"""Else it lies over the thumbnails of templates whose files are not there."""

SERIALIZE = "() => JSON.stringify(app.graph.serialize())"  # undefined would come back as null

GROUPS_ON_SCREEN = """cover => {
    const {scale, offset} = app.canvas.ds, {left, top} = app.canvas.canvas.getBoundingClientRect()
    const shown = app.graph.groups.filter(g => !cover.length || cover.some(start => g.title.startsWith(start)))
    const boxes = shown.map(({pos: [x, y], size: [width, height]}) => [x, y, x + width, y + height])
    const edge = (side, pick, at) => (pick(...boxes.map(box => box[side])) + offset[side % 2]) * scale + at
    return [edge(0, Math.min, left), edge(1, Math.min, top), edge(2, Math.max, left), edge(3, Math.max, top)]
}"""


def main() -> int:
    environment = prepare(tests=True)
    if Path(sys.prefix) != environment.python.parent.parent:
        # Playwright is in the private environment.
        return rerun(environment.python)
    load_core()
    from _workflows.bundled import WORKFLOWS

    run, names = "--run" in sys.argv, [name for name in sys.argv[1:] if name != "--run"] or list(WORKFLOWS)
    unknown = [name for name in names if name not in WORKFLOWS]
    if unknown:
        print(f"no such workflow: {', '.join(unknown)}; there are {', '.join(WORKFLOWS)}", file=sys.stderr)
        return 2
    make(environment, [WORKFLOWS[name]() for name in names], run=run)
    return 0


def make(environment: Environment, workflows: list[Workflow], *, run: bool) -> None:
    """Build each workflow in the page and write its files. run: also the thumbnails that are results."""
    with throwaway_server(environment) as server, open_page(server.url) as page:
        presets = json.loads(server.client().get("/pave/presets"))
        page.evaluate(NO_DIALOG)
        for workflow in workflows:
            file, api = file_of(workflow.name), api_file_of(workflow.name)
            page.evaluate(BUILD, {"nodes": workflow.nodes, "groups": workflow.groups, "presets": presets})
            route(page, workflow.name)
            built = json.loads(page.evaluate(SERIALIZE))
            file.write_text(json.dumps(tidy(built), indent=1) + "\n", encoding="utf-8")
            load_workflow(page, file)
            api.write_text(json.dumps(prompt := export_prompt(page), indent=2) + "\n", encoding="utf-8")
            if workflow.cut:
                file.with_suffix(".jpg").write_bytes(part(*workflow.cut))
            elif not workflow.result:
                file.with_suffix(".jpg").write_bytes(thumbnail(page, workflow.cover))
            elif run:
                with server.client() as client:
                    pictures = drawn(client, prompt, preview=shown_by(workflow))
                file.with_suffix(".jpg").write_bytes(sheet(pictures))
            print(file.relative_to(ROOT))


def route(page: Any, name: str) -> None:
    """Lead the wires of the open workflow around its nodes."""
    from _workflows.routes import Wire, routes

    measured = page.evaluate(MEASURE)
    boxes = {node: tuple(box) for node, box in measured["boxes"]}
    found = routes(
        boxes, [Wire(**wire | {end: tuple(wire[end]) for end in ("start", "end")}) for wire in measured["wires"]]
    )
    if found.over:
        print(f"{name}: {len(found.over)} wires still run over nodes: give them room", file=sys.stderr)
    turns = [[turn.id, turn.parent, turn.pos, turn.links] for turn in found.reroutes.values()]
    page.evaluate(ROUTE, {"reroutes": turns, "last": list(found.last.items())})


def tidy(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow without what differs each time it is made."""
    for node in workflow["nodes"]:
        node["properties"] = {"models": models} if (models := files_of(node)) else {}
        node["pos"], node["size"] = ([round(value) for value in node[key]] for key in ("pos", "size"))
    turns = {key: workflow["extra"][key] for key in ("reroutes", "linkExtensions") if key in workflow["extra"]}
    workflow["extra"] = {"ds": VIEW, "pave_view": VIEW, **turns}
    workflow["id"] = "00000000-0000-0000-0000-000000000000"
    return workflow


def thumbnail(page: Any, cover: tuple[str, ...]) -> bytes:
    """The open workflow as a small JPEG, without the page around it: the groups whose titles start as `cover` says."""
    from PIL import Image, ImageOps

    page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(500)
    left, top, right, bottom = page.evaluate(GROUPS_ON_SCREEN, cover)
    shot = page.screenshot(clip={"x": left, "y": top, "width": right - left, "height": bottom - top})
    picture = Image.open(io.BytesIO(shot)).convert("RGB")
    picture = ImageOps.pad(picture, THUMBNAIL, Image.Resampling.LANCZOS, color="#202020")
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=88)
    return data.getvalue()


def part(name: str, box: tuple[int, int, int, int]) -> bytes:
    """A thumbnail of a part of a picture in docs/: its left, top, right and bottom in pixels."""
    from PIL import Image

    data = io.BytesIO()
    with Image.open(ROOT / "docs" / name) as picture:
        picture.convert("RGB").resize(THUMBNAIL, Image.Resampling.LANCZOS, box).save(data, "JPEG", quality=88)
    return data.getvalue()


def shown_by(workflow: Workflow) -> str:
    """The id of the preview that shows the workflow's result."""
    return next(str(node["id"]) for node in workflow.nodes if node["title"] == workflow.result)


def drawn(client: ComfyClient, prompt: dict[str, Any], preview: str) -> list[bytes]:
    """Run a prompt: the pictures that a preview of it shows."""
    made = client.queue(prompt)
    for _ in client.events(made):
        pass
    return [client.view(**image) for image in client.history(made)["outputs"][preview]["images"]]


def sheet(pictures: list[bytes]) -> bytes:
    """A thumbnail of results: one picture, its middle if it is much higher; or up to eight beside each other."""
    from PIL import Image, ImageOps

    images = [Image.open(io.BytesIO(each)).convert("RGB") for each in pictures[:8]]
    if len(images) == 1:
        wide = images[0].width / images[0].height > THUMBNAIL[0] / THUMBNAIL[1]
        shape = partial(ImageOps.pad, color="white") if wide else ImageOps.fit
        made = shape(images[0], THUMBNAIL, Image.Resampling.LANCZOS)
    else:
        columns = min(4, len(images))
        side = min(THUMBNAIL[0] // columns, THUMBNAIL[1] // -(-len(images) // columns))
        tiled = Image.new("RGB", (columns * side, -(-len(images) // columns) * side), "#202020")
        for i, image in enumerate(images):
            tiled.paste(ImageOps.fit(image, (side, side)), (i % columns * side, i // columns * side))
        made = ImageOps.pad(tiled, THUMBNAIL, color="#202020")
    data = io.BytesIO()
    made.save(data, "JPEG", quality=88)
    return data.getvalue()


if __name__ == "__main__":
    sys.exit(main())
