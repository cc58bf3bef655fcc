// What the user must see where the log is not read, such as that images go to another machine.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

api.addEventListener("pave.notice", ({ detail }) => {
  app.extensionManager.toast.add({ severity: "warn", summary: "Pave-GRPO", detail: detail.text });
});

app.registerExtension({ name: "pave.notices" });
