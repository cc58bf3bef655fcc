// One chart with its title, its legend, and the same numbers as a table behind a button.
import { chart, HEIGHT } from "./charts.js";
import { el, write } from "./dom.js";
import { table } from "./table.js";
import { number } from "./words.js";

// What the chart shows, for who does not see it.
function inWords({ title, steps, series }) {
  const parts = series.map(({ label, values }) => {
    const known = values.filter((value) => value !== null);
    if (!known.length) return `${label}: no values`;
    const low = known.reduce((a, b) => Math.min(a, b));
    const high = known.reduce((a, b) => Math.max(a, b));
    return `${label}: last ${number(known.at(-1))}, lowest ${number(low)}, highest ${number(high)}`;
  });
  return `${title}, steps ${steps[0]} to ${steps.at(-1)}. ${parts.join(". ")}. The button Table shows the numbers.`;
}

function legendItem(ground, index) {
  const mark = el("span", { class: "pave-mark" });
  const name = el("span", { class: "pave-series" });
  const value = el("span", { class: "pave-value" });
  return {
    element: el("li", {}, mark, name, value),
    update({ label, values, error, right }, kind, place) {
      mark.style.color = ground.theme.series[index % ground.theme.series.length];
      mark.dataset.kind = kind === "stacked" ? "bar" : right ? "dashed" : "line";
      write(name, right ? `${label} (right)` : label);
      const spread = error && error[place] !== null ? ` ± ${number(error[place], 2)}` : "";
      write(value, number(values[place]) + (values[place] === null ? "" : spread));
    },
  };
}

// `ground` has what all cards share: {theme, width, tables}; `tables` are the keys of those that show their table.
export function card(first, ground) {
  const key = first.key;
  let model = first;
  let plot = null;
  let place = null; // of the pointer

  const title = el("h3");
  const button = el("button", { type: "button", class: "pave-button pave-small", onclick: turn }, "Table");
  const at = el("span", { class: "pave-at" });
  const items = el("ul");
  const legend = el("div", { class: "pave-legend", "aria-hidden": "true" }, at, items);
  const box = el("div", { class: "pave-chart", role: "img", style: `height: ${HEIGHT}px` });
  const numbers = el("div", { class: "pave-table", role: "region", tabindex: "0" });
  const alarms = el("ul", { class: "pave-alarms" });
  const element = el(
    "section",
    { class: "pave-card", "data-chart": key },
    el("header", {}, title, button),
    legend,
    box,
    numbers,
    alarms,
  );
  let legendItems = [];

  function turn() {
    if (!ground.tables.delete(key)) ground.tables.add(key);
    show();
  }

  function tell() {
    const shown = Math.min(place ?? model.steps.length - 1, model.steps.length - 1);
    write(at, `step ${model.steps[shown]}`);
    model.series.forEach((series, index) => legendItems[index].update(series, model.kind, shown));
  }

  function pointed(index) {
    if (index === place) return;
    place = index;
    tell();
  }

  function stop() {
    plot?.destroy();
    plot = null;
    place = null;
  }

  function show() {
    const asTable = ground.tables.has(key);
    button.setAttribute("aria-pressed", String(asTable));
    legend.hidden = box.hidden = asTable;
    numbers.hidden = !asTable;
    if (asTable) {
      stop();
      numbers.replaceChildren(table(model));
    } else {
      numbers.replaceChildren();
      if (plot) plot.set(model);
      else if (ground.width() > 0) plot = chart(box, model, ground.theme, ground.width(), pointed);
      tell();
    }
  }

  return {
    element,
    update(next) {
      // Another set of series is another chart: a judge or a phase that came later.
      const names = ({ series }) => series.map(({ label }) => label).join("\n");
      if (!items.children.length || names(next) !== names(model)) {
        stop();
        legendItems = next.series.map((series, index) => legendItem(ground, index));
        items.replaceChildren(...legendItems.map((item) => item.element));
      }
      model = next;
      write(title, model.title);
      button.setAttribute("aria-label", `Table: ${model.title}`);
      numbers.setAttribute("aria-label", model.title);
      box.setAttribute("aria-label", inWords(model));
      const raised = (model.alarms ?? []).flatMap((texts, index) =>
        texts.map((text) => el("li", {}, `step ${model.steps[index]}: ${text}`)),
      );
      alarms.replaceChildren(...raised);
      alarms.hidden = !raised.length;
      show();
    },
    resize() {
      if (plot) plot.resize(ground.width());
      else show();
    },
    repaint() {
      stop();
      show();
    },
    destroy: stop,
  };
}
