// New nodes are as wide as their titles, with the badge that Nodes 2.0 of older front ends (1.32) puts beside them, and the names of their settings need.
import { app } from "../../scripts/app.js";

const LEAST = 320;
const BADGE = 194; // px: collapse button, badge and padding
const pen = document.createElement("canvas").getContext("2d");

app.registerExtension({
  name: "pave.widths",
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("Pave")) return;
    pen.font = "700 14px Arial, sans-serif"; // the widest of the front ends' fonts for a title
    node.setSize([Math.max(node.size[0], LEAST, BADGE + Math.ceil(pen.measureText(node.title).width)), node.size[1]]);
  },
});
