// The images that were compared last, the best first, with what each of them was given.
import { el, write } from "./dom.js";
import { number, signed } from "./words.js";

export async function fetched(ask, path) {
  const response = await ask(path, {});
  if (!response.ok) throw new Error(path);
  return response.blob();
}

export function groupView(path, ask) {
  let shown = null; // the step whose images are here
  let wanted = null; // the step of the newest group
  let loading = false;
  let ended = false;
  let addresses = [];
  const title = el("h3");
  const prompt = el("p", { class: "pave-prompt" });
  const images = el("ol", { class: "pave-images", "aria-label": "Images of the group, the best first" });
  const element = el("section", { class: "pave-card pave-group" }, el("header", {}, title), prompt, images);
  element.hidden = true;

  function drop() {
    for (const address of addresses) URL.revokeObjectURL(address);
    addresses = [];
  }

  function item({ advantage, scores }, address) {
    const parts = Object.entries(scores).map(([reward, score]) => `${reward} ${number(score)}`);
    const alt = [`advantage ${signed(advantage, 3)}`, ...parts].join(", ");
    const lines = parts.map((part) => el("span", { class: "pave-part" }, part));
    const given = el("span", { class: "pave-advantage", "data-better": String(advantage > 0) }, signed(advantage, 3));
    return el("li", {}, el("img", { src: address, alt, title: alt }), given, ...lines);
  }

  async function load() {
    const response = await ask(`${path}/group`, { cache: "no-store" });
    if (!response.ok) return;
    const group = await response.json();
    const files = group.images.map(({ place }) => fetched(ask, `${path}/group/${group.step}/${place}`));
    const blobs = await Promise.all(files);
    if (ended) return;
    drop();
    addresses = blobs.map((blob) => URL.createObjectURL(blob));
    shown = group.step;
    write(title, `Compared in step ${group.step}`);
    write(prompt, group.prompt);
    images.replaceChildren(...group.images.map((image, i) => item(image, addresses[i])));
    element.hidden = false;
  }

  return {
    element,
    // `step` is that of the group the server has; null: it has none, and what is shown stays. One is loaded at a time:
    // where steps are quick, each would otherwise be given up for the next, and none be seen.
    async update(step) {
      if (step === null || step === undefined) return;
      wanted = step;
      if (loading) return;
      loading = true;
      for (let tried = null; !ended && wanted !== shown && wanted !== tried; ) {
        tried = wanted;
        try {
          await load();
        } catch {
          // Another page has asked for a newer one, or the server is away: the next answer brings another group.
        }
      }
      loading = false;
    },
    destroy() {
      ended = true;
      drop();
    },
  };
}
