// Two runs beside each other: their curves in one chart each, and the settings that differ.
import { got } from "./actions.js";
import { card } from "./card.js";
import { el, keyed, write } from "./dom.js";
import { onTheme, themeOf } from "./theme.js";

const PADDING = 22; // px of a card, as in run.js
const LONG = 300; // characters of a setting
const TITLE = "Settings that differ";

// The values of both by step: {steps, series}, with null where a run has none.
function together(names, of) {
  const steps = [...new Set(of.flatMap((points) => points.map(({ step }) => step)))].sort((a, b) => a - b);
  const series = of.map((points, i) => {
    const found = new Map(points.map((point) => [point.step, point]));
    const pick = (key) => steps.map((step) => found.get(step)?.[key] ?? null);
    const error = points[0]?.error === undefined ? undefined : pick("error");
    return { label: names[i], values: pick("value"), error };
  });
  return { steps, series };
}

const gains = ({ evaluations }) => evaluations.map(({ step, gain, se }) => ({ step, value: gain, error: se }));
const rewards = ({ steps_done, curves }) => steps_done.map((step, i) => ({ step, value: curves.reward[i] }));

function chartsOf(names, runs) {
  const gain = { key: "gain of two", title: "Gain on held-out prompts", zero: true, points: true, joined: true };
  const reward = { key: "reward of two", title: "Reward of the training images", joined: true };
  return [
    { ...gain, ...together(names, runs.map(gains)) },
    { ...reward, ...together(names, runs.map(rewards)) },
  ].filter(({ steps }) => steps.length);
}

const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));

const isGroup = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

// {"config.optim.learning_rate": {whole, shown}, ...}; of a list of groups, such as rewards, by their names.
function flat(value, where = "", found = {}) {
  const groups = Array.isArray(value) && value.length > 0 && value.every(isGroup);
  if (isGroup(value) || groups) {
    for (const [key, each] of Object.entries(value)) {
      const name = groups && typeof each.name === "string" ? each.name : key;
      flat(each, where ? `${where}.${name}` : name, found);
    }
  } else {
    const text = Array.isArray(value) ? value.map(plain).join("\n") : plain(value);
    found[where] = { whole: text, shown: text.length > LONG ? `${text.slice(0, LONG)} ...` : text };
  }
  return found;
}

function differences(names, recipes) {
  const [a, b] = recipes.map((recipe) => flat(recipe));
  const all = [...new Set([...Object.keys(a), ...Object.keys(b)])];
  const keys = all.filter((key) => a[key]?.whole !== b[key]?.whole);
  if (!keys.length) return el("p", { class: "pave-hint" }, "Their settings, prompts and rewards are the same.");
  const cell = (each) => el("td", {}, each?.shown ?? "–");
  // A setting's name stands over its values: beside them there is no room for it in a sidebar.
  const title = (key) => el("th", { scope: "rowgroup", colspan: "2" }, key.replace(/^config\./, ""));
  const values = (key) => el("tr", {}, cell(a[key]), cell(b[key]));
  const settings = keys.map((key) => el("tbody", {}, el("tr", {}, title(key)), values(key)));
  const head = el("tr", {}, ...names.map((label) => el("th", { scope: "col" }, label)));
  const caption = el("caption", {}, TITLE);
  const box = { class: "pave-table pave-differences", tabindex: "0", role: "region", "aria-label": TITLE };
  return el("div", box, el("table", {}, caption, el("thead", {}, head), ...settings));
}

// `host` is {fetch, shown, tables}; `back` leads to the list.
export function compareView(names, host, back) {
  let ended = false;
  let trains = false; // one of them, still
  const leave = el("button", { type: "button", class: "pave-button pave-back", onclick: back }, "← All runs");
  const trouble = el("p", { class: "pave-trouble", role: "status" });
  const hint = el("p", { class: "pave-hint" });
  const cards = el("div", { class: "pave-cards" });
  const differing = el("div");
  const settings = el("section", { class: "pave-card" }, el("header", {}, el("h3", {}, TITLE)), differing);
  const title = el("h2", {}, names.join(" and "));
  const element = el("div", { class: "pave-compare" }, leave, title, trouble, hint, cards, settings);
  settings.hidden = true;
  write(trouble, "");
  write(hint, "Loading ...");

  const known = new Map();
  const ground = { tables: host.tables, theme: null, width: () => Math.floor(cards.clientWidth - PADDING) };
  const resized = new ResizeObserver(() => known.forEach((each) => each.resize()));
  resized.observe(cards);
  const themed = onTheme(repaint);

  function repaint() {
    ground.theme = themeOf(element);
    for (const each of known.values()) each.repaint();
  }

  async function load() {
    const paths = names.map((name) => `/pave/runs/${encodeURIComponent(name)}`);
    const asked = [...paths, ...paths.map((path) => `${path}/recipe`)];
    const all = await Promise.all(asked.map((path) => got(host.fetch, path)));
    const [runs, recipes] = [all.slice(0, 2), all.slice(2)];
    if (ended) return;
    write(hint, "");
    write(trouble, runs.map(({ error }) => error).filter(Boolean).join(". "));
    if (runs.some(({ error }) => error)) return;
    trains = runs.some(({ answer }) => answer.status === "training");
    ground.theme ??= themeOf(element);
    const charts = chartsOf(names, runs.map(({ answer }) => answer));
    keyed(cards, known, charts, (model) => model.key, (model) => card(model, ground));
    const without = recipes.map(({ error }) => error).filter(Boolean);
    const both = recipes.map(({ answer }) => answer);
    const said = without.length ? el("p", { class: "pave-hint" }, without.join(". ")) : differences(names, both);
    differing.replaceChildren(said);
    settings.hidden = false;
  }

  load();
  return {
    element,
    hear() {},
    focus: () => leave.focus(),
    tick: () => trains && host.shown() && load(),
    repaint,
    destroy() {
      ended = true;
      resized.disconnect();
      themed();
      for (const each of known.values()) each.destroy();
    },
  };
}
