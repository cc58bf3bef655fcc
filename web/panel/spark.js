// A curve as small as a word, for the list: it shows a direction and no numbers.

const SPACE = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, AIR] = [72, 22, 2];

function svg(tag, properties) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
  return element;
}

export function spark() {
  const line = svg("polyline", { fill: "none", "stroke-width": 1.5, "stroke-linejoin": "round" });
  const element = svg("svg", { class: "pave-spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
  element.append(line);
  return {
    element,
    update(values) {
      const known = values.map((value, place) => [place, value]).filter(([, value]) => value !== null);
      element.style.display = known.length > 1 ? "" : "none";
      if (known.length < 2) return;
      const all = known.map(([, value]) => value);
      const [low, high] = [Math.min(...all), Math.max(...all)];
      const x = (place) => AIR + ((WIDTH - 2 * AIR) * place) / (values.length - 1);
      const y = (value) => HEIGHT - AIR - (high > low ? (value - low) / (high - low) : 0.5) * (HEIGHT - 2 * AIR);
      const points = known.map(([place, value]) => `${x(place).toFixed(1)},${y(value).toFixed(1)}`);
      line.setAttribute("points", points.join(" "));
    },
  };
}
