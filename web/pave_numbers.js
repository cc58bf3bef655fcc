// Nodes 2.0 of older front ends (1.32) shows three decimals of every number: a learning rate of 0.0001 as 0. Ours show as many as their step has.
import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "pave.numbers",
  nodeCreated(node) {
    if (!node.comfyClass?.startsWith("Pave")) return;
    for (const { type, options } of node.widgets ?? []) {
      if (type === "number" && options?.step2 < 1) options.maxFractionDigits = Math.min(20, Math.ceil(-Math.log10(options.step2) - 1e-9));
    }
  },
});
