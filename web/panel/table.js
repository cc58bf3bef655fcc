// The numbers of a chart as a table, for the keyboard, a screen reader, and who wants the digits.
import { el } from "./dom.js";
import { number } from "./words.js";

const DIGITS = 6;

function columns({ series, alarms }) {
  const found = [];
  for (const { label, values, error } of series) {
    found.push([label, values.map((value) => number(value, DIGITS))]);
    if (error) found.push(["± standard error", error.map((value) => number(value, DIGITS))]);
  }
  if (alarms) found.push(["alarms", alarms.map((each) => each.join(", ") || "–")]);
  return found;
}

export function table(model) {
  const shown = columns(model);
  const labels = ["step", ...shown.map(([label]) => label)];
  const head = el("tr", {}, ...labels.map((label) => el("th", { scope: "col" }, label)));
  const rows = model.steps.map((step, place) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, String(step)),
      ...shown.map(([, values]) => el("td", {}, values[place])),
    ),
  );
  return el("table", {}, el("caption", {}, model.title), el("thead", {}, head), el("tbody", {}, ...rows));
}
