// One chart, by uPlot 1.6.32 (MIT, vendor/LICENSE): axes, lines or stacked bars, the pointer. The legend is card.js's.
import uPlot from "./vendor/uPlot.esm.js";

export const HEIGHT = 170;
const FONT = '11px Inter, system-ui, "Segoe UI", Roboto, sans-serif';
const NONE = { show: false };
const DASH = [7, 4]; // of what belongs to the right axis: told apart without colour too
// Distances of two labels: no 0.25, which needs a digit more than 0.2 and 0.5.
const POWERS = Array.from({ length: 25 }, (_, place) => place - 12);
const APART = POWERS.flatMap((power) => [1, 2, 5].map((digit) => Number(`${digit}e${power}`)));
const WHOLE = APART.filter((distance) => distance >= 1);

// Bars on top of each other: each series is drawn as the sum of itself and those below it, the tallest first.
function stack(series) {
  const sums = [];
  for (const { values } of series) {
    const under = sums.at(-1);
    sums.push(
      values.map((value, place) => {
        const below = under?.[place] ?? null;
        return value === null ? below : value + (below ?? 0);
      }),
    );
  }
  return sums;
}

function drawn(model) {
  const values = model.kind === "stacked" ? stack(model.series).reverse() : model.series.map((each) => each.values);
  return [model.steps, ...values];
}

// From the lowest to the highest value, error bars included, with some air.
function limits(model, scale) {
  if (model.kind === "stacked") {
    const tops = stack(model.series).at(-1); // too many, in a long run, for the arguments of one call
    const top = tops.reduce((highest, value) => Math.max(highest, value), 0);
    return [0, top * 1.06 || 1];
  }
  let [low, high] = [Infinity, -Infinity];
  const meet = (value) => {
    low = Math.min(low, value);
    high = Math.max(high, value);
  };
  for (const { values, error, right } of model.series) {
    if (Boolean(right) !== (scale === "right")) continue;
    if (model.zero && !right) meet(0);
    values.forEach((value, place) => {
      if (value === null) return;
      meet(value - (error?.[place] ?? 0));
      meet(value + (error?.[place] ?? 0));
    });
  }
  if (low > high) return [0, 1];
  const air = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  return [low - air, high + air];
}

// uPlot's own labels have three decimals: a learning rate of 0.0001 would be 0.
function labels(chart, splits, axis, space, increment) {
  const decimals = Math.max(0, Math.ceil(-Math.log10(increment) - 1e-9));
  if (decimals > 4) return splits.map((value) => (value === 0 ? "0" : String(Number(value.toPrecision(4)))));
  return splits.map((value) => value.toFixed(decimals));
}

const widest = (chart, values) => 18 + 6.5 * Math.max(1, ...(values ?? []).map((value) => value.length));

// A value between two gaps has no line to be seen by.
function lonely(chart, index, shown) {
  if (shown) return null;
  const values = chart.data[index];
  const places = values.map((value, place) => place);
  return places.filter((place) => values[place] !== null && (values[place - 1] ?? values[place + 1] ?? null) === null);
}

function errorBars(chart, model, theme) {
  const { ctx } = chart;
  const cap = 4 * devicePixelRatio;
  model.series.forEach(({ values, error }, index) => {
    if (!error) return;
    ctx.save();
    ctx.strokeStyle = theme.series[index];
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.beginPath();
    values.forEach((value, place) => {
      if (value === null || !error[place]) return;
      const x = chart.valToPos(model.steps[place], "x", true);
      const [low, high] = [-1, 1].map((side) => chart.valToPos(value + side * error[place], "y", true));
      ctx.moveTo(x, low);
      ctx.lineTo(x, high);
      for (const end of [low, high]) {
        ctx.moveTo(x - cap, end);
        ctx.lineTo(x + cap, end);
      }
    });
    ctx.stroke();
    ctx.restore();
  });
}

function zeroLine(chart, theme) {
  const { ctx, bbox } = chart;
  const y = chart.valToPos(0, "y", true);
  ctx.save();
  ctx.strokeStyle = theme.line;
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}

function seriesOf(model, theme) {
  const stacked = model.kind === "stacked";
  const found = model.series.map(({ label, right }, index) => ({
    label,
    scale: right ? "right" : "y",
    stroke: stacked ? undefined : theme.series[index % theme.series.length],
    fill: stacked ? theme.series[index % theme.series.length] : undefined,
    width: stacked ? 0 : 2,
    dash: right ? DASH : undefined,
    spanGaps: model.joined, // of two runs, one may have been measured where the other was not
    paths: stacked ? uPlot.paths.bars({ size: [0.85, 28] }) : undefined,
    points: stacked ? NONE : { size: 6, filter: lonely, ...(model.points ? { show: true } : {}) },
  }));
  return [{}, ...(stacked ? found.reverse() : found)];
}

// A chart in `box`. `pointed` is called with the place (in model.steps) under the pointer, or null.
export function chart(box, model, theme, width, pointed) {
  const stacked = model.kind === "stacked";
  const axis = { stroke: theme.text, font: FONT, ticks: NONE, grid: { stroke: theme.grid, width: 1 } };
  const upright = { incrs: APART, values: labels, size: widest, space: 32, gap: 6 };
  const axes = [
    { ...axis, incrs: WHOLE, values: (u, splits) => splits.map(String), size: 22, space: 44, gap: 4, grid: NONE },
    { ...axis, ...upright, scale: "y" },
  ];
  if (model.series.some(({ right }) => right)) axes.push({ ...axis, ...upright, scale: "right", side: 1, grid: NONE });
  const range = (first, last) => {
    const air = stacked ? 0.6 : (last - first) * 0.02 || 0.5;
    return [first - air, last + air];
  };
  const plot = new uPlot(
    {
      width,
      height: HEIGHT,
      padding: [8, axes.length > 2 ? 0 : 10, 0, 0],
      scales: {
        x: { time: false, range: (u, first, last) => (first === null ? [0, 1] : range(first, last)) },
        y: { range: () => limits(model, "y") },
        right: { range: () => limits(model, "right") },
      },
      axes,
      series: seriesOf(model, theme),
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false, x: false, y: false }, points: stacked ? NONE : { size: 8 } },
      hooks: {
        setCursor: [(u) => pointed(u.cursor.idx ?? null)],
        drawAxes: [(u) => model.zero && zeroLine(u, theme), (u) => errorBars(u, model, theme)], // below the points
      },
    },
    drawn(model),
    box,
  );
  return {
    set(next) {
      model = next;
      plot.setData(drawn(model));
    },
    resize: (next) => plot.setSize({ width: next, height: HEIGHT }),
    destroy: () => plot.destroy(),
  };
}
