// What the charts of a run show: from the server's numbers to titles, steps and series.
//
// A chart: {key, title, steps, series, kind, zero, alarms}. A series: {label, values, error, right}: `error` is the
// standard error of each value, `right` puts it on an axis of its own, because its unit is another.

const has = (values) => values?.some((value) => value !== null) ?? false;

function gained({ evaluations }) {
  if (!evaluations.length) return null;
  const of = (name) => evaluations.map((each) => each[name]);
  const series = [{ label: "gain", values: of("gain"), error: of("se") }];
  if (has(of("judge"))) series.push({ label: "judge", values: of("judge"), right: true });
  return { key: "gain", title: "Gain on held-out prompts", steps: of("step"), series, zero: true, points: true };
}

function rewarded(key, title, steps, { reward, spread }) {
  if (!has(reward) && !has(spread)) return null;
  const series = [{ label: "reward", values: reward }];
  if (has(spread)) series.push({ label: "spread", values: spread, right: true });
  return { key, title, steps, series };
}

function graded({ steps_done: steps, curves }) {
  if (!has(curves.gradient)) return null;
  const rate = curves["learning rate"];
  const series = [{ label: "gradient", values: curves.gradient }];
  if (has(rate)) series.push({ label: "learning rate", values: rate, right: true });
  return { key: "gradient", title: "Gradient norm", steps, series };
}

function diverged({ steps_done: steps, curves: { divergence, limited } }) {
  const series = [];
  if (has(divergence)) series.push({ label: "divergence", values: divergence });
  if (has(limited)) series.push({ label: "share limited", values: limited, right: series.length > 0 });
  return series.length ? { key: "divergence", title: "Divergence from the base (KL)", steps, series } : null;
}

function remembered({ steps_done: steps, curves: { memory } }) {
  if (!has(memory)) return null;
  return { key: "memory", title: "Peak memory so far", steps, series: [{ label: "GB", values: memory }] };
}

function timed({ steps_done: steps, seconds }) {
  const series = Object.entries(seconds).map(([label, values]) => ({ label, values }));
  if (!series.some(({ values }) => has(values))) return null;
  return { key: "seconds", title: "Seconds by phase", steps, series, kind: "stacked" };
}

function guarded({ guard }) {
  if (!guard.length) return null;
  const of = (name) => guard.map((each) => each[name]);
  const series = [
    { label: "held out", values: of("held_out") },
    { label: "drift", values: of("drift"), right: true },
  ].filter(({ values }) => has(values));
  return { key: "guard", title: "Guard", steps: of("step"), series, points: true, alarms: of("alarms") };
}

export function chartsOf(run) {
  const each = Object.entries(run.rewards);
  return [
    gained(run),
    rewarded("reward", "Reward and spread", run.steps_done, run.curves),
    ...(each.length > 1 ? each : []).map(([name, curves]) =>
      rewarded(`reward ${name}`, `Reward: ${name}`, run.steps_done, curves),
    ),
    graded(run),
    diverged(run),
    timed(run),
    remembered(run),
    guarded(run),
  ].filter((chart) => chart !== null);
}
