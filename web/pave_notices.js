// What the user must see where the log is not read, such as that images go to another machine.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const SHOWN = 30_000; // ms: the message lies over the Run button, and the log has it too

api.addEventListener("pave.notice", ({ detail }) => {
  app.extensionManager.toast.add({ severity: "warn", summary: "Pave-GRPO", detail: detail.text, life: SHOWN });
});

app.registerExtension({ name: "pave.notices" });
