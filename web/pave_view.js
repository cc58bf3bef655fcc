// What a template of ours does when it opens, and once: what a person saves opens as it was left.
import { app } from "../../scripts/app.js";
import { setWidget } from "./panel/widgets.js";

const LORAS = ["lora_name", "lora"]; // widgets that name a LoRA

// At 100 %, where its note is. Newer front ends (1.49) fit the whole of a template into the view, which nobody can read.
function look({ scale, offset }) {
  if (!app.canvas) return;
  app.canvas.ds.scale = scale;
  app.canvas.ds.offset = [...offset];
  app.canvas.setDirty(true, true);
}

// The newest of NAME.safetensors, NAME_2.safetensors, ... as Pave Save LoRA numbers them; null where there is none.
function newest(files, name) {
  const stem = name.replace(/\.safetensors$/, "");
  const number = (file) => {
    if (file === name) return 1;
    const rest = file.startsWith(`${stem}_`) ? file.slice(stem.length + 1) : "";
    return /^\d+\.safetensors$/.test(rest) ? parseInt(rest, 10) : 0;
  };
  return files.filter(number).sort((a, b) => number(b) - number(a))[0] ?? null;
}

// The file names a LoRA as it is called the first time: who has trained more often means the last one.
function chooseLoras() {
  for (const node of app.graph.nodes) {
    for (const widget of node.widgets ?? []) {
      if (!LORAS.includes(widget.name) || !Array.isArray(widget.options?.values)) continue;
      const file = newest(widget.options.values, String(widget.value));
      if (file) setWidget(app, node, widget, file);
    }
  }
}

app.registerExtension({
  name: "pave.view",
  afterConfigureGraph() {
    const view = app.graph.extra?.pave_view;
    if (!view) return;
    delete app.graph.extra.pave_view;
    look(view);
    chooseLoras();
  },
});
