// One held-out prompt from one seed, before training and after a measured step: a slider over these steps.
import { el, write } from "./dom.js";
import { fetched } from "./group.js";

const KEPT = 80; // pictures in memory
const LONG = 36; // characters of a prompt in the list: a longer one is shown whole below it

const named = ({ prompt, seed }) =>
  `${prompt.length > LONG ? `${prompt.slice(0, LONG)} ...` : prompt} (seed ${seed})`;

export function measuredView(path, ask) {
  const known = new Map(); // "step/place" -> a promise of the address, the one that was shown last at the end
  let measured = { places: [], steps: [] };
  let wanted = 0;

  const choice = el("select", { class: "pave-select", "aria-label": "Prompt", onchange: show });
  const prompt = el("p", { class: "pave-prompt" });
  const figure = (label) => {
    const image = el("img", { alt: "" });
    const caption = el("figcaption");
    return { image, caption, element: el("figure", { "aria-label": label }, image, caption) };
  };
  const before = figure("Before");
  const after = figure("After");
  const pair = el("div", { class: "pave-pair" }, before.element, after.element);
  const range = { type: "range", class: "pave-slider", min: "0", step: "1", "aria-label": "Measured step" };
  const slider = el("input", { ...range, oninput: show });
  const header = el("header", {}, el("h3", {}, "The same seed, before and now"));
  const element = el("section", { class: "pave-card pave-measured" }, header, choice, prompt, pair, slider);
  element.hidden = true;

  function address(step, place) {
    const key = `${step}/${place}`;
    const found = known.get(key) ?? fetched(ask, `${path}/measured/${key}`).then((blob) => URL.createObjectURL(blob));
    known.delete(key);
    known.set(key, found);
    for (const old of [...known.keys()].slice(0, -KEPT)) forget(old);
    return found;
  }

  function forget(key) {
    known.get(key).then(URL.revokeObjectURL, () => {});
    known.delete(key);
  }

  async function show() {
    const turn = ++wanted;
    const place = Number(choice.value);
    const { steps, places } = measured;
    const step = steps[Number(slider.value)];
    slider.setAttribute("aria-valuetext", `step ${step}`);
    write(prompt, choice.hidden || places[place].prompt.length > LONG ? places[place].prompt : "");
    const shown = [
      [before, steps[0]],
      [after, step],
    ];
    try {
      const addresses = await Promise.all(shown.map(([, at]) => address(at, place)));
      if (turn !== wanted) return; // the slider has gone on
      shown.forEach(([{ image, caption }, at], i) => {
        image.src = addresses[i];
        image.alt = `${places[place].prompt}, step ${at}`;
        write(caption, `step ${at}`);
      });
      element.hidden = false;
    } catch {
      // A step that has just been dropped, or the server is away: asked for again with the next answer.
      for (const [, at] of shown) known.delete(`${at}/${place}`);
    }
  }

  return {
    element,
    update(next) {
      const { places, steps } = next;
      if (steps.length < 2 || !places.length) return;
      const same = JSON.stringify(next) === JSON.stringify(measured);
      if (same && !element.hidden) return;
      const last = !measured.steps.length || Number(slider.value) === measured.steps.length - 1;
      const at = measured.steps[Number(slider.value)];
      if (JSON.stringify(places) !== JSON.stringify(measured.places)) {
        const options = places.map((each, at) => el("option", { value: String(at) }, named(each)));
        choice.replaceChildren(...options);
        choice.hidden = places.length < 2;
      }
      measured = next;
      slider.max = String(steps.length - 1);
      // Who looks at an earlier step goes on looking at it.
      slider.value = String(last ? steps.length - 1 : Math.max(0, steps.findLastIndex((step) => step <= at)));
      show();
    },
    destroy() {
      wanted += 1;
      for (const key of [...known.keys()]) forget(key);
    },
  };
}
