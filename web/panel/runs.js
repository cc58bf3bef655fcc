// The list of all runs, the live one on top.
import { badge } from "./badge.js";
import { el, keyed, write } from "./dom.js";
import { feed } from "./feed.js";
import * as words from "./words.js";

const EMPTY = "There are no runs yet: open the template quickstart of Pave-GRPO and press Run.";

function row(name, open) {
  const status = badge();
  const step = el("span");
  const gain = el("span");
  const megabytes = el("span");
  const time = el("time");
  const facts = el("span", { class: "pave-facts" }, step, gain, megabytes, time);
  const head = el("span", { class: "pave-head" }, el("span", { class: "pave-name" }, name), status.element);
  const button = el("button", { type: "button", class: "pave-row", onclick: () => open(name) }, head, facts);
  return {
    element: el("li", {}, button),
    button,
    update({ run, live, now }) {
      button.classList.toggle("pave-live", live);
      status.update(run.status);
      write(step, words.steps(run.step, run.steps));
      write(gain, run.gain && words.gain(run.gain));
      write(megabytes, words.size(run.megabytes));
      write(time, words.ago(run.modified, now / 1000));
      time.dateTime = new Date(run.modified * 1000).toISOString();
    },
  };
}

// `host` is {fetch, shown, now}; `open` is called with a name; `answers` with each answer, before it is shown: true if
// another view has taken over.
export function runsView(host, open, answers) {
  let answered = null;
  const trouble = el("p", { class: "pave-trouble", role: "status" });
  const hint = el("p", { class: "pave-hint" });
  const list = el("ul", { class: "pave-runs", "aria-label": "Runs" });
  const element = el("div", {}, el("h2", {}, "Runs"), trouble, hint, list);
  trouble.hidden = true;
  write(hint, "Loading ...");
  const known = new Map();

  function show() {
    if (!answered) return;
    const { live, runs } = answered;
    const now = host.now();
    const items = runs.map((run) => ({ run, live: run.name === live, now }));
    items.sort((a, b) => b.live - a.live); // stable: else newest first, as they came
    write(hint, runs.length ? "" : EMPTY);
    keyed(list, known, items, ({ run }) => run.name, ({ run }) => row(run.name, open));
  }

  const asked = feed(host.fetch, "/pave/runs", host.shown, ({ answer, missing, failed }) => {
    write(trouble, failed ? "The server does not answer. Trying again ..." : missing);
    if (!answer) return write(hint, answered ? hint.textContent : "");
    answered = answer;
    if (!answers?.(answer)) show();
  });

  return {
    element,
    hear: () => asked.ask(),
    focus: (name) => known.get(name)?.button.focus(),
    // A list that was shown before is shown at once, until the server has answered.
    recall(answer) {
      answered = answer;
      show();
    },
    answered: () => answered,
    tick: show,
    repaint() {},
    destroy: asked.end,
  };
}
