// Folds the settings for experts away behind a button, where the host only marks them: the classic canvas of every host, and Nodes 2.0 of those (0.3.75)
// that do not fold by themselves. Open or folded is node.showAdvanced, which the host saves with the node. Nothing moves: saved values keep their places.
import { app } from "../../scripts/app.js";

const FEWEST = 3; // widgets that are worth a button
const ALWAYS_SHOWN = "Comfy.Node.AlwaysShowAdvancedWidgets"; // the setting of hosts whose Nodes 2.0 folds
const GAP = 4; // px: below each widget
const FAR_AWAY = -10_000;
const [OPEN, CLOSED] = ["fewer settings", "more settings"];
const setting = () => app.extensionManager.setting.get(ALWAYS_SHOWN);

// Wired, or shown on a subgraph too: such a widget stays in sight.
const isUsed = (node, widget) =>
  Boolean(widget.promoted || node.inputs?.some((input) => input.widget?.name === widget.name && input.link != null));

const live = (target, name, more) => Object.defineProperty(target, name, { configurable: true, ...more });

function foldAway(node) {
  const experts = node.widgets?.filter((widget) => widget.options?.advanced) ?? [];
  if (experts.length < FEWEST) return;
  const hostFolds = setting() !== undefined;
  const isHidden = (widget) => !node.showAdvanced && !setting() && experts.includes(widget) && !isUsed(node, widget);
  const isWidgetVisible = node.isWidgetVisible;
  node.isWidgetVisible = (widget) => !isHidden(widget) && isWidgetVisible.call(node, widget);
  for (const widget of experts) {
    const hidden = () => isHidden(widget);
    if (!hostFolds) live(widget.options, "hidden", { enumerable: true, get: hidden }); // for Nodes 2.0, which copies the options
    // The canvas keeps room for what is not seen, and its socket takes wires there. A subgraph's copy of the widget does not have this.
    let { y, computeSize } = widget;
    live(widget, "computeSize", { get: () => (hidden() ? () => [0, -GAP] : computeSize), set: (given) => (computeSize = given) });
    live(widget, "y", { get: () => (hidden() ? FAR_AWAY : y), set: (given) => (y = given) });
  }
  const button = node.addWidget("button", CLOSED, null, toggle, { serialize: false, canvasOnly: hostFolds });
  button.serialize = false;
  node.drawFolded = drawFolded;
  node.setSize([node.size[0], node.computeSize()[1]]); // a new node; that of a saved one is set later

  function drawFolded() {
    button.name = button.label = node.showAdvanced ? OPEN : CLOSED;
    // Nodes 2.0 of 1.32 copies widgets when a node is added, and each time that one is changed: it is told anew.
    if (!hostFolds && app.extensionManager.setting.get("Comfy.VueNodes.Enabled")) node.graph?.onNodeAdded?.(node);
    node.setDirtyCanvas(true, true);
  }

  function toggle() {
    const before = node.computeSize()[1];
    node.showAdvanced = !node.showAdvanced;
    const least = node.computeSize()[1];
    node.setSize([node.size[0], Math.max(least, node.size[1] + least - before)]);
    drawFolded();
  }
}

app.registerExtension({
  name: "pave.advanced",
  nodeCreated(node) {
    if (node.comfyClass?.startsWith("Pave")) foldAway(node);
  },
  loadedGraphNode(node) {
    node.drawFolded?.(); // only now it is known which are wired, and whether the node was saved open
  },
});
