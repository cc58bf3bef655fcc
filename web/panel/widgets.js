// Widgets of nodes, also of those in subgraphs, whose widgets can be shown on the subgraph too ("promoted"). It imports
// nothing of the host.

// Where a widget of a node in a subgraph is promoted: [subgraph node, its widget] for each use of the subgraph.
function uses(node, widget) {
  const graph = node.graph;
  if (!graph || graph === graph.rootGraph) return [];
  const leadsHere = ({ target_id, target_slot }) =>
    graph.getNodeById(target_id) === node && node.inputs[target_slot].name === widget.name;
  const input = graph.inputs.find(({ linkIds }) => linkIds.some((id) => leadsHere(graph.getLink(id))));
  if (!input) return [];
  return [graph.rootGraph, ...graph.rootGraph.subgraphs.values()]
    .flatMap((each) => each.nodes.filter((node) => node.subgraph === graph))
    .map((node) => [node, node.widgets.find((widget) => widget.name === input.name)])
    .filter(([, widget]) => widget);
}

// The same through subgraphs in subgraphs, with the widget itself first.
const shown = (node, widget) => [[node, widget], ...uses(node, widget).flatMap((use) => shown(...use))];

// Those of them that are promoted no further: their values are the ones that are sent.
export function outermost(node, widget) {
  const further = uses(node, widget);
  return further.length ? further.flatMap((use) => outermost(...use)) : [widget];
}

// Nodes 2.0 shows what a widget's callback is told: a value alone would be sent to the server and not be shown.
export function setWidget(app, node, widget, value) {
  for (const [holder, each] of shown(node, widget)) {
    if (each.value === value) continue;
    each.value = value;
    each.callback?.(value, app.canvas, holder);
  }
}
