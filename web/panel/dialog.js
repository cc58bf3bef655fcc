// The images to choose from in a window over the page, as large as they can be. It imports nothing of the host.
import { el } from "./dom.js";
import { personView } from "./person.js";

const STYLE = new URL("panel.css", import.meta.url).href;

// Opens it in `body`. Gives {hear, close}; `closed` is called once it is gone. The dialog keeps the focus, and no key
// that is pressed in it reaches the host.
export function personDialog(body, ask, closed) {
  const view = personView(ask, () => !document.hidden, { fit: true });
  const leave = el("button", { type: "button", class: "pave-button pave-leave", onclick: () => dialog.close() }, "Later");
  leave.title = "Esc: the question waits, also in the tab Pave-GRPO of the sidebar";
  const style = el("link", { rel: "stylesheet", href: STYLE });
  const dialog = el("dialog", { class: "pave-panel pave-dialog", "aria-label": "Choose images" }, style, view.element, leave);
  dialog.addEventListener("keydown", (event) => event.stopPropagation());
  dialog.addEventListener("close", () => {
    view.destroy();
    dialog.remove();
    closed();
  });
  body.append(dialog);
  dialog.showModal();
  view.focus();
  return { hear: view.hear, close: () => dialog.close() };
}
