// Orders to the run that trains: what can be ordered, what was and is not done yet, and what came of the last one.
import { post } from "./act.js";
import { el, write } from "./dom.js";

const DOING = {
  pause: "pausing ...",
  "go on": "going on ...",
  save: "saving ...",
  evaluate: "evaluating ...",
  halve: "halving the learning rate ...",
  finish: "stopping, to measure and finish ...",
};
const ASKED =
  "The step under way is dropped. What was learnt is measured and saved, and the nodes behind it get their LoRA. " +
  "It can be resumed.";

// `path` is that of the run; `sent` is called when the server has taken an order.
export function steerView(path, ask, sent) {
  let run = null;
  let trouble = null; // of the order that was given last
  const given = new Set(); // orders that the server has not answered yet

  const press = (order) => (event) => !off(event.currentTarget) && give(order);
  const off = (button) => button.getAttribute("aria-disabled") === "true";
  const button = (text, title, onclick) =>
    el("button", { type: "button", class: "pave-button pave-small", title, onclick }, text);
  const pause = button("Pause", null, () => !off(pause) && give(run.paused ? "go on" : "pause"));
  const buttons = {
    save: button("Save now", "Write LoRA and checkpoint of the last complete step", press("save")),
    evaluate: button("Evaluate now", "Measure the last complete step on the held-out prompts", press("evaluate")),
    halve: button("Halve the learning rate", "From the next step of the optimizer on", press("halve")),
    finish: button("Stop and finish", "Asks once", () => !off(buttons.finish) && question(true)),
  };
  const row = el("div", { class: "pave-orders", role: "group", "aria-label": "Steer this run" });
  row.append(pause, ...Object.values(buttons));
  const yes = button("Stop and finish", null, () => {
    question(false);
    give("finish");
  });
  const no = button("Train on", null, () => question(false));
  const sure = el(
    "div",
    { class: "pave-sure", role: "group", "aria-label": "Stop and finish?", onkeydown },
    el("p", {}, ASKED),
    el("div", { class: "pave-orders" }, yes, no),
  );
  const said = el("p", { class: "pave-obeyed", role: "status" });
  const wrong = el("p", { class: "pave-trouble", role: "alert" });
  const element = el("section", { class: "pave-steer", "aria-label": "Steer" }, row, sure, said, wrong);
  element.hidden = sure.hidden = said.hidden = wrong.hidden = true;

  function onkeydown(event) {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    question(false);
  }

  function question(asked) {
    sure.hidden = !asked;
    buttons.finish.setAttribute("aria-expanded", String(asked));
    (asked ? no : buttons.finish).focus();
  }

  async function give(order) {
    given.add(order);
    trouble = null;
    show();
    const { error } = await post(ask, `${path}/steer`, { order });
    given.delete(order);
    trouble = error ?? null;
    if (!error) run.ordered = [...new Set([...(run.ordered ?? []), order])]; // until the next answer
    show();
    sent();
  }

  function show() {
    element.hidden = run.status !== "training";
    const waiting = new Set([...(run.ordered ?? []), ...given]);
    const turning = waiting.has("pause") || waiting.has("go on");
    write(pause, run.paused ? "Go on" : "Pause");
    pause.setAttribute("aria-disabled", String(turning));
    for (const [order, each] of Object.entries(buttons)) each.setAttribute("aria-disabled", String(waiting.has(order)));
    if (waiting.has("finish") && !sure.hidden) question(false);
    const doing = [...waiting].map((order) => DOING[order] ?? order);
    write(said, doing.length ? doing.join(" ") : run.obeyed);
    write(wrong, trouble);
  }

  return {
    element,
    update(next) {
      run = next;
      show();
    },
  };
}
