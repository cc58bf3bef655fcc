// Numbers, times and states in words.

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const STATUS = {
  training: "training",
  finished: "finished",
  stopped: "stopped, can be resumed",
  begun: "begun, nothing kept yet",
  damaged: "damaged",
};

// As many digits as tell two values of one curve apart: 0.000123 and 1234.5 alike.
export function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return String(Number(value.toPrecision(digits)));
}

export const signed = (value, digits) => (value > 0 ? "+" : "") + number(value, digits);

export const gain = ([value, error]) => `gain ${signed(value, 3)} ± ${number(error, 2)}`;

export function steps(step, whole) {
  return whole === null || whole === undefined ? `step ${step}` : `step ${step} of ${whole}`;
}

// `roughly` is "about", or "at least" where something is not counted.
export function left(seconds, roughly = "about") {
  if (seconds < MINUTE && roughly === "about") return "less than a minute left";
  if (seconds < MINUTE) return `${roughly} ${Math.round(seconds)} s left`;
  if (seconds < HOUR) return `${roughly} ${Math.round(seconds / MINUTE)} min left`;
  const [big, small, unit, part] = seconds < DAY ? [HOUR, MINUTE, "h", "min"] : [DAY, HOUR, "d", "h"];
  const parts = Math.round(seconds / small);
  const per = big / small;
  return `${roughly} ${Math.floor(parts / per)} ${unit} ${parts % per} ${part} left`;
}

export function pace(seconds) {
  return seconds < 2 * MINUTE ? `${number(seconds, 2)} s a step` : `${number(seconds / MINUTE, 2)} min a step`;
}

export function ago(seconds, now) {
  const age = Math.max(0, now - seconds);
  if (age < MINUTE) return "just now";
  if (age < HOUR) return `${Math.floor(age / MINUTE)} min ago`;
  if (age < DAY) return `${Math.floor(age / HOUR)} h ago`;
  if (age < 30 * DAY) return `${Math.floor(age / DAY)} d ago`;
  return new Date(seconds * 1000).toLocaleDateString();
}

export function size(megabytes) {
  return megabytes < 1000 ? `${number(megabytes, megabytes < 1 ? 1 : 3)} MB` : `${number(megabytes / 1000, 3)} GB`;
}
