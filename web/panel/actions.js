// What people do with a run: resume it, open what began it, copy its LoRA, remove it. What came of it is said below.
import { post } from "./act.js";
import { el, write } from "./dom.js";
import { size } from "./words.js";

const GONE = "the server does not answer";

export async function got(ask, path) {
  try {
    const response = await ask(path, { cache: "no-store" });
    const answer = await response.json();
    return response.ok ? { answer } : { error: answer?.error ?? GONE };
  } catch {
    return { error: GONE };
  }
}

// `host` is {fetch, editor}; `removed` is called with what is to be said once the run is gone. In `update` a run as the
// list has it, or as it tells itself.
export function actions(name, host, removed) {
  const path = `/pave/runs/${encodeURIComponent(name)}`;
  let run = null;
  let busy = false;

  const small = (label, onclick, more = {}) =>
    el("button", { type: "button", class: "pave-button pave-small", onclick, ...more }, label);
  const button = (label, title, act) => small(label, () => once(act), { title });
  const resume = button("Resume", "Put it into resume of the node that trains, in the open workflow", resumed);
  const open = button("Open workflow", "Open the workflow that began it, to train it again", opened);
  const recipe = button("Recipe", "Show all its settings, to copy them", showRecipe);
  const copy = button("Copy LoRA", "Copy its LoRA to the folder models/loras", copied);
  const remove = button("Delete ...", "Delete its folder, after a question", asked);
  const group = { class: "pave-actions", role: "group", "aria-label": `Actions of ${name}` };
  const bar = el("div", group, resume, open, recipe, copy, remove);
  const said = el("p", { class: "pave-outcome", role: "status" });
  const more = el("div");
  const element = el("div", { class: "pave-acting" }, bar, said, more);
  write(said, "");

  async function once(act) {
    if (busy) return; // a second click before the first has been answered
    busy = true;
    more.replaceChildren();
    write(said, "");
    try {
      await act();
    } finally {
      busy = false;
    }
  }

  const tell = ({ said: text, error }) => {
    said.dataset.bad = String(Boolean(error));
    write(said, text ?? error);
  };

  async function resumed() {
    tell(await host.editor.resume(name));
  }

  async function opened() {
    const { answer, error } = await got(host.fetch, `${path}/workflow`);
    if (error) return tell({ error });
    try {
      await host.editor.open(answer, name);
      tell({ said: "The workflow that began it is open. Press Run to train it again." });
    } catch {
      tell({ error: "The editor cannot open the workflow of this run." });
    }
  }

  async function showRecipe() {
    const { answer, error } = await got(host.fetch, `${path}/recipe`);
    if (error) return tell({ error });
    const text = el("textarea", { class: "pave-text", readonly: "", rows: "12", "aria-label": `Recipe of ${name}` });
    text.value = JSON.stringify(answer, null, 1);
    const close = () => {
      more.replaceChildren();
      recipe.focus();
    };
    const put = small("Copy", take);
    const away = small("Close", close);
    async function take() {
      text.select();
      try {
        await navigator.clipboard.writeText(text.value);
      } catch {
        document.execCommand("copy"); // a page that is not served from this machine, nor over https, has no clipboard
      }
      tell({ said: "The recipe is copied." });
    }
    more.replaceChildren(text, el("div", { class: "pave-actions" }, put, away));
    put.focus();
  }

  async function copied() {
    const { answer, error } = await post(host.fetch, `${path}/copy`);
    if (error) return tell({ error });
    await host.editor?.refresh();
    const where = `Load LoRA lists it as ${answer.name}.`;
    tell({ said: answer.new ? `The LoRA is copied: ${where}` : `It was there already: ${where}` });
  }

  function asked() {
    const person = run.person ? " What was clicked in it, and the taste that was learnt from that, go too." : "";
    const lora = run.lora ? " Its LoRA in output/loras/pave stays." : "";
    const room = run.megabytes === undefined ? "" : ` (${size(run.megabytes)})`;
    const what = `Delete the folder of ${name}${room} with its checkpoint, curves and pictures?`;
    const question = `${what}${person}${lora} This cannot be undone.`;
    const yes = small("Delete", () => once(gone), { class: "pave-button pave-small pave-danger" });
    const no = small("Keep", cancel);
    function cancel() {
      more.replaceChildren();
      remove.focus();
    }
    const dialog = { class: "pave-question", role: "alertdialog", "aria-label": question };
    const box = el("div", dialog, el("p", {}, question), el("div", { class: "pave-actions" }, yes, no));
    box.addEventListener("keydown", (event) => event.key === "Escape" && cancel());
    more.replaceChildren(box);
    no.focus();
  }

  async function gone() {
    const { answer, error } = await post(host.fetch, `${path}/delete`);
    if (error) return tell({ error });
    await host.editor?.refresh();
    const { left } = answer;
    const rest = left.length ? ` What stays in its folder: ${left.join(", ")}.` : "";
    removed(`${name} is deleted.${rest}`);
  }

  return {
    element,
    update(next) {
      run = next;
      const trains = run.status === "training";
      resume.hidden = !run.resumable || trains || !host.editor;
      open.hidden = !run.workflow || !host.editor;
      recipe.hidden = !run.resumable && !run.lora;
      copy.hidden = !run.lora;
      remove.hidden = trains;
      bar.hidden = [...bar.children].every((each) => each.hidden);
    },
  };
}
