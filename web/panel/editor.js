// What the panel does in the host's editor, through the host's `app`. It imports nothing of the host.
import { setWidget } from "./widgets.js";

const TRAINERS = ["PaveTrain", "PaveTrainAdvanced", "PaveBegin"];
const OFF = [2, 4]; // the modes of nodes that are muted or bypassed
const NONE = "none";
const OPEN_ONE =
  "No node of the open workflow trains. Open one with Pave Train, such as the one that began this run, and try again.";
const THEN = "Press Run; if it has done all its steps, raise iterations first.";

export function editor(app) {
  // Also those in subgraphs.
  function trainers() {
    const root = app.graph.rootGraph ?? app.graph;
    const graphs = [root, ...(root.subgraphs?.values() ?? [])];
    return graphs.flatMap(({ nodes }) => nodes).filter((node) => TRAINERS.includes(node.comfyClass));
  }

  const resumeOf = (node) => node.widgets.find((widget) => widget.name === "resume");
  // By a wire, and not because it is shown on a subgraph.
  const isWired = ({ graph, inputs }) =>
    graph === (graph.rootGraph ?? graph) && inputs?.some(({ name, link }) => name === "resume" && link != null);

  // The lists of files and runs in the widgets, as they are now.
  const refresh = () => app.refreshComboInNodes?.();

  return {
    refresh,
    // {said} or {error}, in words.
    async resume(name) {
      const all = trainers().filter((node) => !OFF.includes(node.mode));
      const selected = all.filter((node) => app.canvas.selectedItems?.has(node));
      const found = selected.length ? selected : all;
      if (!found.length) return { error: OPEN_ONE };
      if (found.length > 1) return { error: `${found.length} nodes train here: select the one that is to go on.` };
      const [node] = found;
      if (isWired(node)) return { error: `resume of ${node.title} is on a wire: take it off, and try again.` };
      await refresh();
      const widget = resumeOf(node);
      if (!widget.options.values.includes(name)) return { error: "It has no checkpoint to go on from any more." };
      setWidget(app, node, widget, name);
      node.setDirtyCanvas?.(true, true);
      return { said: `resume of ${node.title} is ${name} now. ${THEN}` };
    },
    // Opens it beside what is open, so that it trains from the beginning again.
    async open(graph, name) {
      await app.loadGraphData(graph, true, true, name);
      for (const node of trainers()) {
        const widget = resumeOf(node);
        if (widget && widget.value !== NONE && !isWired(node)) setWidget(app, node, widget, NONE);
      }
    },
  };
}
