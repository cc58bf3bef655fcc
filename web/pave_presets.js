// Choosing a preset writes its values into the widgets. What trains is what the widgets say.
// On the settings nodes, which have a widget for every setting, changing one by hand makes the preset "custom" again. The preset of Pave Train also sets what
// that node has no widget for, and stays.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const STAYS = ["PaveTrain"];
const LEAVES = ["PaveMemory", "PaveRolloutSettings", "PaveObjective", "PaveOptimizer"];
const RENAMED = { paper: "pave (released code)" }; // as in pave_core/config/presets.py
const presets = api.fetchApi("/pave/presets").then((response) => response.json());

const presetOf = (node) => node.widgets.find((widget) => widget.name === "preset");

// Nodes 2.0 shows what a widget's callback is told: a value alone would be sent to the server and not be shown.
function set(node, widget, value) {
  if (widget.value === value) return;
  widget.value = value;
  widget.callback?.(value, app.canvas, node);
}

app.registerExtension({
  name: "pave.presets",
  // Not async up to here: Nodes 2.0 takes the callbacks as they are when the node has been created.
  nodeCreated(node) {
    const stays = STAYS.includes(node.comfyClass);
    if (!stays && !LEAVES.includes(node.comfyClass)) return;
    const preset = presetOf(node);
    let filling = false;

    async function changed(name, value) {
      if (filling) return;
      const filled = (await presets)[node.comfyClass];
      filling = true;
      try {
        if (name !== "preset") {
          if (!stays && name in Object.values(filled)[0]) set(node, preset, "custom");
        } else if (value in filled) {
          for (const widget of node.widgets) {
            if (widget.name in filled[value]) set(node, widget, filled[value][widget.name]);
          }
        }
      } finally {
        filling = false;
      }
      node.setDirtyCanvas(true, true);
    }

    for (const widget of node.widgets) {
      const callback = widget.callback;
      widget.callback = function (...args) {
        const result = callback?.apply(this, args);
        changed(widget.name, args[0]);
        return result;
      };
    }
  },
  // Graphs of an older version have a preset's old name. Its values are in the widgets already.
  loadedGraphNode(node) {
    if (!STAYS.includes(node.comfyClass)) return;
    const preset = presetOf(node);
    preset.value = RENAMED[preset.value] ?? preset.value;
  },
});
