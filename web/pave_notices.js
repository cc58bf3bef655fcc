// What the user must see where the log is not read: that images go to another machine, and what came of a run.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const SHOWN = 30_000; // ms: the message lies over the Run button, and the log has it too

function show(severity, summary, detail) {
  app.extensionManager.toast.add({ severity, summary, detail, life: SHOWN });
}

api.addEventListener("pave.notice", ({ detail }) => show("warn", "Pave-GRPO", detail.text));

api.addEventListener("pave.ended", ({ detail: { name, text, early } }) => {
  show(early ? "info" : "success", `Pave-GRPO: ${name}`, text);
  app.refreshComboInNodes?.(); // the lists of runs and of LoRAs have one more
});

app.registerExtension({ name: "pave.notices" });
