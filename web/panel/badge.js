// A run's status as the host's tags look.
import { el, write } from "./dom.js";
import { STATUS } from "./words.js";

export function badge() {
  const element = el("span", { class: "pave-badge" });
  return {
    element,
    update(status) {
      element.dataset.status = status;
      write(element, STATUS[status] ?? status);
    },
  };
}
