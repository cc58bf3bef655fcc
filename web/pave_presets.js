// Choosing a preset writes its values into the widgets. What trains is what the widgets say.
// On the settings nodes, which have a widget for every setting, changing one by hand makes the preset "custom" again. The preset of Pave Train also sets what
// that node has no widget for, and stays.
// A widget of a node in a subgraph can be shown on the subgraph too ("promoted"); it is the shown one whose value is sent.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { outermost, setWidget } from "./panel/widgets.js";

const STAYS = ["PaveTrain"];
const LEAVES = ["PaveMemory", "PaveRolloutSettings", "PaveObjective", "PaveOptimizer"];
const RENAMED = { paper: "pave (released code)" }; // as in pave_core/config/presets.py
const LOOK_EVERY = 300; // ms
const SHOWN = 15_000; // ms: the message lies over the Run button
const presets = api.fetchApi("/pave/presets").then((response) => response.json());
const warned = new WeakSet(); // nodes

const hasPreset = (node) => STAYS.includes(node.comfyClass) || LEAVES.includes(node.comfyClass);
const presetOf = (node) => node.widgets.find((widget) => widget.name === "preset");

const set = (node, widget, value) => setWidget(app, node, widget, value);

function warn(node) {
  if (warned.has(node)) return;
  warned.add(node);
  const detail = `The subgraph of ${node.title} is used more than once, with different presets, but its other settings are the same for all uses: choose one preset, or unpack the subgraphs.`;
  app.extensionManager.toast.add({ severity: "warn", summary: "Pave-GRPO", detail, life: SHOWN });
}

// Nobody tells a node that its promoted preset was changed (front end 1.47 on): what is shown there is looked at.
function look() {
  for (const graph of app.graph.rootGraph.subgraphs.values()) {
    for (const node of graph.nodes.filter(hasPreset)) {
      const own = presetOf(node);
      const [value, ...others] = new Set(outermost(node, own).map((widget) => widget.value));
      if (others.length) warn(node);
      else if (value !== own.value) set(node, own, value);
    }
  }
}

app.registerExtension({
  name: "pave.presets",
  // Not async up to here: Nodes 2.0 takes the callbacks as they are when the node has been created.
  nodeCreated(node) {
    const stays = STAYS.includes(node.comfyClass);
    if (!hasPreset(node)) return;
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
  setup() {
    setInterval(look, LOOK_EVERY);
  },
  // Graphs of an older version have a preset's old name. Its values are in the widgets already.
  loadedGraphNode(node) {
    if (!STAYS.includes(node.comfyClass)) return;
    const preset = presetOf(node);
    preset.value = RENAMED[preset.value] ?? preset.value;
  },
});
