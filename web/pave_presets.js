// Choosing a preset of Pave Train or Pave Memory writes its values into the widgets; changing one of those widgets by hand makes the preset "custom" again.
// What trains is what the widgets say, whatever preset is shown.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODES = ["PaveTrain", "PaveMemory"];
const presets = api.fetchApi("/pave/presets").then((response) => response.json());

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
    if (!NODES.includes(node.comfyClass)) return;
    const preset = node.widgets.find((widget) => widget.name === "preset");
    let filling = false;

    async function changed(name, value) {
      if (filling) return;
      const filled = (await presets)[node.comfyClass];
      filling = true;
      try {
        if (name !== "preset") {
          if (name in Object.values(filled)[0]) set(node, preset, "custom");
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
});
