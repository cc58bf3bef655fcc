// Choosing a preset of Pave Train writes its values into the widgets, so that what is shown is what runs;
// changing one of those widgets by hand makes the preset "custom" again.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const presets = api.fetchApi("/pave/presets").then((response) => response.json());

function afterChange(widget, react) {
  const callback = widget.callback;
  widget.callback = function (...args) {
    const result = callback?.apply(this, args);
    react(args[0]);
    return result;
  };
}

async function fill(node, name) {
  const values = (await presets)[name];
  for (const widget of node.widgets) {
    if (values && widget.name in values) widget.value = values[widget.name];
  }
  node.setDirtyCanvas(true, true);
}

app.registerExtension({
  name: "pave.presets",
  async nodeCreated(node) {
    if (node.comfyClass !== "PaveTrain") return;
    const preset = node.widgets.find((widget) => widget.name === "preset");
    afterChange(preset, (name) => fill(node, name));
    const settings = Object.values(await presets)[0];
    for (const widget of node.widgets.filter((widget) => widget.name in settings)) {
      afterChange(widget, () => {
        preset.value = "custom";
      });
    }
  },
});
