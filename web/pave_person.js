// A person is asked: the window opens with the first question of a run, and stays until it is closed.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { personDialog } from "./panel/dialog.js";

let dialog = null;
let declined = null; // the run whose window was closed by hand: it is not opened again by itself
let run = null;

const ask = (path, options) => api.fetchApi(path, options);

export function openPerson() {
  if (dialog) return;
  const of = run;
  dialog = personDialog(document.body, ask, () => {
    dialog = null;
    declined = of;
  });
}

function asked({ run: by, open }) {
  run = by;
  if (open && by !== declined) openPerson();
  dialog?.hear();
}

api.addEventListener("pave.person", ({ detail }) => asked(detail));
api.addEventListener("pave.run", () => dialog?.hear());
api.addEventListener("pave.ended", () => dialog?.close());

async function waiting() {
  try {
    const state = await (await ask("/pave/person", { cache: "no-store" })).json();
    if (state.question) asked(state);
  } catch {
    // The server is away: its first event tells.
  }
}

api.addEventListener("reconnected", waiting);
app.registerExtension({ name: "pave.person", setup: waiting });
