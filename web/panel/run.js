// The view of one run: where it stands, its charts, the images that were compared last, its pictures.
import { actions } from "./actions.js";
import { badge } from "./badge.js";
import { card } from "./card.js";
import { el, keyed, write } from "./dom.js";
import { feed } from "./feed.js";
import { groupView } from "./group.js";
import { measuredView } from "./measured.js";
import { chartsOf } from "./models.js";
import { steerView } from "./steer.js";
import { onTheme, themeOf } from "./theme.js";
import * as words from "./words.js";

const GRID = "grid"; // "curve" shows what the charts do
const PADDING = 22; // px of a card, left and right together, with its border

function bar(label) {
  const fill = el("div");
  const said = { role: "progressbar", "aria-valuemin": "0", "aria-label": label };
  const element = el("div", { class: "pave-bar", ...said }, fill);
  return {
    element,
    update(done, whole) {
      element.hidden = !whole;
      if (!whole) return;
      element.setAttribute("aria-valuenow", String(done));
      element.setAttribute("aria-valuemax", String(whole));
      fill.style.width = `${Math.min(100, (100 * done) / whole)}%`;
    },
  };
}

// The picture of held-out prompts, before and now. Fetched as everything else is, so that the host's proxies and
// accounts are met; again when the run was measured again.
function picture(path, ask) {
  let version = null;
  let address = null;
  let wanted = 0;
  const image = el("img", { alt: "Images of held-out prompts, before and after training" });
  const link = el("a", { target: "_blank", rel: "noopener", title: "Open in full size" }, image);
  const header = el("header", {}, el("h3", {}, "Before and after"));
  const element = el("section", { class: "pave-card pave-picture" }, header, link);
  element.hidden = true;
  const drop = () => address && URL.revokeObjectURL(address);
  return {
    element,
    async update(run) {
      if (!run.pictures.includes(GRID)) return;
      const next = `${run.status} ${run.evaluations.length}`;
      if (next === version) return;
      version = next;
      const number = ++wanted;
      let blob = null;
      try {
        const response = await ask(`${path}/pictures/${GRID}`, {});
        if (response.ok) blob = await response.blob();
      } catch {
        // Shown by the feed, if the server is away.
      }
      if (number !== wanted) return; // a newer one is on its way, or the view is closed
      if (!blob) version = null; // with the next answer
      if (!blob) return;
      drop();
      address = URL.createObjectURL(blob);
      image.src = link.href = address;
      element.hidden = false;
    },
    destroy() {
      wanted += 1;
      drop();
    },
  };
}

// `host` is {fetch, shown, now, tables, editor}; `back` leads to the list, and so does `removed`, with what it says.
export function runView(name, host, back, removed) {
  const path = `/pave/runs/${encodeURIComponent(name)}`;
  let run = null;
  let heard = 0; // ms: when the last answer came

  const leave = el("button", { type: "button", class: "pave-button pave-back", onclick: back }, "← All runs");
  const status = badge();
  const trouble = el("p", { class: "pave-trouble", role: "status" });
  const step = el("span", { class: "pave-step" });
  const time = el("span", { class: "pave-time" });
  const all = bar("Steps");
  const phase = el("p", { class: "pave-phase" });
  const part = bar("Phase");
  const steer = steerView(path, host.fetch, () => asked.ask());
  const message = el("p", { class: "pave-message" });
  const hint = el("p", { class: "pave-hint" });
  const cards = el("div", { class: "pave-cards" });
  const acting = actions(name, host, removed);
  const group = groupView(path, host.fetch);
  const measured = measuredView(path, host.fetch);
  const grid = picture(path, host.fetch);
  const element = el(
    "div",
    { class: "pave-run" },
    leave,
    el("div", { class: "pave-head" }, el("h2", {}, name), status.element),
    trouble,
    el("div", { class: "pave-line" }, step, time),
    all.element,
    phase,
    part.element,
    steer.element,
    message,
    hint,
    acting.element,
    group.element,
    measured.element,
    cards,
    grid.element,
  );
  for (const each of [status, all, part, acting]) each.element.hidden = true;
  for (const each of [trouble, step, time, phase, message]) each.hidden = true;
  write(hint, "Loading ...");

  const known = new Map();
  const ground = { tables: host.tables, theme: null, width: () => Math.floor(cards.clientWidth - PADDING) };
  let width = 0;
  // The element has its font and colours once the panel's stylesheet is there, which changes its width too.
  const resized = new ResizeObserver(() => {
    if (ground.width() === width) return;
    width = ground.width();
    for (const each of known.values()) each.resize();
  });
  resized.observe(cards);
  const themed = onTheme(repaint);

  function repaint() {
    ground.theme = themeOf(element);
    for (const each of known.values()) each.repaint();
  }

  function showTime() {
    if (!run) return;
    const passed = run.paused ? 0 : (host.now() - heard) / 1000;
    const left = run.seconds_left === null ? null : words.left(Math.max(0, run.seconds_left - passed), run.roughly);
    const pace = run.seconds_per_step === null ? null : words.pace(run.seconds_per_step);
    const shown = run.status === "training" ? [left, pace] : [pace];
    write(time, shown.filter(Boolean).join(" · "));
  }

  function show() {
    status.update(run.status);
    write(step, words.steps(run.step, run.steps));
    all.update(run.step, run.steps);
    write(phase, run.phase && run.phase.what + (run.phase.whole ? ` ${run.phase.done} of ${run.phase.whole}` : ""));
    part.update(run.phase?.done, run.phase?.whole);
    steer.update(run);
    write(message, run.message === run.obeyed && !run.ordered?.length ? "" : run.message); // where steer shows it
    showTime();
    const charts = chartsOf(run);
    write(hint, charts.length || run.status !== "training" ? "" : "The curves come with the first step.");
    ground.theme ??= themeOf(element);
    keyed(cards, known, charts, (model) => model.key, (model) => card(model, ground));
    acting.element.hidden = false;
    acting.update(run);
    group.update(run.group);
    if (run.measured) measured.update(run.measured);
    grid.update(run);
  }

  const asked = feed(host.fetch, path, host.shown, ({ answer, missing, failed }) => {
    write(trouble, failed ? "The server does not answer. Trying again ..." : missing);
    if (!run) write(hint, "");
    if (!answer) return;
    run = answer;
    heard = host.now();
    show();
  });

  return {
    element,
    hear: (changed) => (changed === null || changed === name) && asked.ask(),
    focus: () => leave.focus(),
    tick() {
      showTime();
      if (run?.status === "training") asked.ask(); // an event may have been lost
    },
    repaint,
    destroy() {
      asked.end();
      resized.disconnect();
      themed();
      group.destroy();
      measured.destroy();
      grid.destroy();
      for (const each of known.values()) each.destroy();
    },
  };
}
