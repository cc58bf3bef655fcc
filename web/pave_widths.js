// New nodes are as wide as their titles, with the badge that Nodes 2.0 of older front ends (1.32) puts beside them, and the names of their settings need.
import { app } from "../../scripts/app.js";

const LEAST = 320;
const BADGE = 190; // px: collapse button, badge and padding
const LETTER = 8; // px: of a title, at most

app.registerExtension({
  name: "pave.widths",
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("Pave")) return;
    node.setSize([Math.max(node.size[0], LEAST, BADGE + LETTER * node.title.length), node.size[1]]);
  },
});
