// What a person is asked: images of one prompt, to be clicked or ranked. By mouse and by keys.
import { post } from "./act.js";
import { el, write } from "./dom.js";
import { feed } from "./feed.js";
import * as words from "./words.js";

const PATH = "/pave/person";
const KEYS = "Keys: 1 to 9 pick an image, arrows and space too, Enter is Done, R ranks, 0 is none, S skips, Z takes back.";

// The answer that picked images make: each tier is liked better than those after it. See pave_core/person/choice.py.
export function choiceOf(picked, ranking, images) {
  const rest = [...Array(images).keys()].filter((place) => !picked.includes(place));
  const tiers = ranking ? picked.map((place) => [place]) : [[...picked]];
  return { kind: "ranked", tiers: rest.length ? [...tiers, rest] : tiers };
}

// How many columns make the images largest in a box of this size.
export function columnsFor(images, width, height, ratio, gap = 8) {
  let best = { columns: 1, side: 0 };
  for (let columns = 1; columns <= images; columns++) {
    const rows = Math.ceil(images / columns);
    const side = Math.min((width - gap * (columns - 1)) / columns, ((height - gap * (rows - 1)) / rows) * ratio);
    if (side > best.side) best = { columns, side };
  }
  return best;
}

// `ask` is fetch, `shown()` whether anybody looks. `fit`: the images fill the view, which then does not scroll.
// `enlarge` opens a larger view of the same.
export function personView(ask, shown, { fit = false, enlarge = null } = {}) {
  let state = null;
  let picked = [];
  let ranking = false;
  let storing = false; // a draft is on its way: what the server says of it is older than what is shown
  let stale = false; // and there is a newer one
  let busy = false; // an answer is on its way
  let key = null; // of the question whose images are here
  let addresses = [];
  let dragged = null;

  const title = el("h3");
  const count = el("span", { class: "pave-time" });
  const prompt = el("p", { class: "pave-asked-prompt" });
  const tiles = el("div", { class: "pave-tiles", role: "group" });
  const order = el("ol", { class: "pave-order", "aria-label": "Your order, the best first" });
  const act = (text, does, hint) => el("button", { type: "button", class: "pave-button", onclick: does, title: hint }, text);
  const done = act("Done", confirm, "Enter");
  done.classList.add("pave-main");
  const rank = act("Rank", () => turn(!ranking), "R: the order in which you pick is a ranking");
  const none = act("None of these", () => answer({ kind: "none", tiers: [] }), "0");
  const skip = act("Skip", () => answer({ kind: "skipped", tiers: [] }), "S: nothing is learnt from these");
  const undo = act("Undo", takeBack, "Z: takes back what you picked, then your last answer");
  const large = enlarge && act("Large", enlarge, "In a window of its own");
  const said = el("p", { class: "pave-told", role: "status" });
  const learnt = el("p", { class: "pave-time" });
  const wait = el("p", { class: "pave-hint" });
  const keys = el("p", { class: "pave-keys" }, KEYS);
  const buttons = el("div", { class: "pave-acts" }, done, rank, none, skip, undo, large);
  const element = el(
    "section",
    { class: `pave-card pave-person${fit ? " pave-fit" : ""}`, tabindex: "-1", onkeydown: press },
    el("header", {}, title, count),
    prompt,
    wait,
    tiles,
    order,
    buttons,
    said,
    learnt,
    keys,
  );
  element.hidden = true;
  const sized = new ResizeObserver(() => lay());
  sized.observe(tiles);

  function drop() {
    for (const address of addresses) URL.revokeObjectURL(address);
    addresses = [];
  }

  const tileOf = (place) => tiles.children[place];

  function tile(place, { width, height }) {
    const image = el("img", { alt: `Image ${place + 1}`, draggable: "false" });
    image.style.aspectRatio = `${width} / ${height}`;
    const number = el("span", { class: "pave-number", "aria-hidden": "true" }, String(place + 1));
    const mark = el("span", { class: "pave-pick", "aria-hidden": "true" });
    const button = el(
      "button",
      { type: "button", class: "pave-tile", draggable: "true", "data-place": place, onclick: () => toggle(place) },
      image,
      number,
      mark,
    );
    button.addEventListener("dragstart", (event) => lift(event, place));
    return button;
  }

  async function fill(question) {
    key = question.key;
    drop();
    tiles.replaceChildren(...Array.from({ length: question.images }, (_, place) => tile(place, question)));
    lay();
    const load = async (place) => {
      try {
        const response = await ask(`${PATH}/${question.key}/${place}`, {});
        if (!response.ok) return;
        const blob = await response.blob();
        if (key !== question.key) return; // another question is shown
        addresses.push(URL.createObjectURL(blob));
        tileOf(place).querySelector("img").src = addresses.at(-1);
      } catch {
        // Answered meanwhile, or the server is away: the feed says so.
      }
    };
    await Promise.all(Array.from({ length: question.images }, (_, place) => load(place)));
  }

  // In a window, the images are as large as all of them can be.
  function lay() {
    const question = state?.question;
    if (!fit || !question || !tiles.clientWidth) return;
    const ratio = question.width / question.height;
    const { columns, side } = columnsFor(question.images, tiles.clientWidth, tiles.clientHeight, ratio);
    tiles.style.gridTemplateColumns = `repeat(${columns}, ${Math.floor(side)}px)`;
  }

  function mark() {
    const images = state?.question?.images ?? 0;
    for (let place = 0; place < images; place++) {
      const at = picked.indexOf(place);
      const button = tileOf(place);
      button.setAttribute("aria-pressed", String(at >= 0));
      const name = at < 0 ? "" : ranking ? `, number ${at + 1} of your order` : ", liked";
      button.setAttribute("aria-label", `Image ${place + 1}${name}`);
      button.querySelector(".pave-pick").textContent = at < 0 ? "" : ranking ? String(at + 1) : "♥";
    }
    rank.setAttribute("aria-pressed", String(ranking));
    order.hidden = !ranking || !state?.question;
    order.replaceChildren(...(ranking ? picked.map(ranked) : []));
    done.disabled = busy || !picked.length;
    none.disabled = skip.disabled = busy;
    undo.disabled = busy || !(picked.length || state?.undo);
  }

  function ranked(place, at) {
    const move = (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      event.stopPropagation();
      shift(place, at + by);
      order.children[Math.min(Math.max(at + by, 0), picked.length - 1)]?.focus();
    };
    const item = el(
      "li",
      { tabindex: "0", draggable: "true", onkeydown: move, title: "Drag it, or move it with the arrow keys" },
      el("img", { src: tileOf(place)?.querySelector("img").src ?? null, alt: "", draggable: "false" }),
      `${at + 1}`,
    );
    item.setAttribute("aria-label", `Number ${at + 1}: image ${place + 1}`);
    item.addEventListener("dragstart", (event) => lift(event, place));
    item.addEventListener("dragover", (event) => dragged !== null && event.preventDefault());
    item.addEventListener("drop", (event) => land(event, at));
    return item;
  }

  function lift(event, place) {
    dragged = place;
    event.dataTransfer.setData("text/plain", String(place + 1));
    event.dataTransfer.effectAllowed = "move";
  }

  function land(event, at) {
    if (dragged === null) return;
    event.preventDefault();
    event.stopPropagation();
    if (!ranking) ranking = true;
    shift(dragged, at);
    dragged = null;
  }
  // Dropped beside the others: last. An image that is dropped on another goes before it.
  for (const place of [order, tiles]) {
    place.addEventListener("dragover", (event) => dragged !== null && event.preventDefault());
  }
  order.addEventListener("drop", (event) => land(event, picked.length));
  tiles.addEventListener("drop", (event) => {
    const on = Number(event.target.closest(".pave-tile")?.dataset.place ?? NaN);
    if (on === dragged) return;
    land(event, picked.includes(on) ? picked.indexOf(on) : picked.length);
  });
  element.addEventListener("dragend", () => (dragged = null));

  function shift(place, at) {
    const others = picked.filter((each) => each !== place);
    const to = Math.min(Math.max(at, 0), others.length);
    change([...others.slice(0, to), place, ...others.slice(to)]);
  }

  function toggle(place) {
    change(picked.includes(place) ? picked.filter((each) => each !== place) : [...picked, place]);
  }

  function turn(on) {
    ranking = on;
    change(picked);
  }

  function change(next) {
    if (busy || !state?.question) return;
    picked = next;
    write(said, "");
    mark();
    store();
  }

  // What is picked, so that nothing is lost: one at a time, since two could overtake each other.
  async function store() {
    stale = true;
    if (storing) return;
    storing = true;
    let result = {};
    const of = state.question.key;
    while (stale && state.question?.key === of) {
      stale = false;
      result = await post(ask, `${PATH}/draft`, { key: of, picked, ranking });
    }
    storing = false;
    if (!busy && state.question?.key === of) heard(result);
    else if (stale && state.question) store();
  }

  function confirm() {
    if (picked.length) answer(choiceOf(picked, ranking, state.question.images));
    else write(said, "Pick the images that you like best first, or choose None of these.");
  }

  async function answer(choice) {
    if (busy || !state?.question) return;
    busy = true;
    mark();
    const result = await post(ask, `${PATH}/answer`, { key: state.question.key, choice });
    busy = false;
    heard(result);
    if (result.error) asked.ask();
  }

  async function takeBack() {
    if (picked.length) {
      change(picked.slice(0, -1));
      return;
    }
    if (busy || !state?.undo) return;
    busy = true;
    mark();
    const result = await post(ask, `${PATH}/undo`);
    busy = false;
    heard(result);
  }

  function heard({ answer: now, error }) {
    if (error) write(said, error);
    if (now) show(now);
    else mark();
    if (now?.said) write(said, now.said);
  }

  function step(by) {
    const buttons = [...tiles.children];
    const at = buttons.indexOf(document.activeElement);
    const next = at < 0 ? 0 : at + by;
    if (next >= 0 && next < buttons.length) buttons[next].focus();
  }

  function press(event) {
    if (!state?.question || event.ctrlKey || event.metaKey || event.altKey) return;
    const tile = event.target.closest(".pave-tile");
    const columns = getComputedStyle(tiles).gridTemplateColumns.split(" ").length;
    const does = {
      ArrowLeft: () => step(-1),
      ArrowRight: () => step(1),
      ArrowUp: () => step(-columns),
      ArrowDown: () => step(columns),
      z: takeBack,
      s: () => answer({ kind: "skipped", tiers: [] }),
      0: () => answer({ kind: "none", tiers: [] }),
      r: () => turn(!ranking),
    };
    if (tile || !event.target.closest("button")) does.Enter = confirm; // on another button, Enter presses it
    if (/^[1-9]$/.test(event.key) && Number(event.key) <= state.question.images) {
      does[event.key] = () => toggle(Number(event.key) - 1);
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (event.repeat && !key.startsWith("Arrow")) return;
    if (!Object.hasOwn(does, key)) return;
    event.preventDefault();
    event.stopPropagation(); // the host has keys of its own
    does[key]();
  }

  // Where nothing is asked: what the person waits for.
  function waiting({ phase, step, steps }) {
    const doing = phase ? phase.what + (phase.whole ? ` ${phase.done} of ${phase.whole}` : "") : "training on it";
    const at = step === null ? "" : ` (${words.steps(step, steps)} done)`;
    return `Thank you. The next images come by themselves: ${doing}${at}.`;
  }

  function show(next) {
    const question = next.question;
    const other = question?.key !== state?.question?.key;
    state = next;
    element.hidden = question === null && !next.run;
    write(title, question ? "Which do you like best?" : "You are the reward");
    const parts = [
      question && next.asked > 1 ? `${next.asked - next.open + 1} of ${next.asked}` : null,
      question && question.step !== null ? `step ${question.step}` : null,
      `${next.answered} answered`,
    ];
    write(count, parts.filter(Boolean).join(" · "));
    write(prompt, question?.prompt);
    write(wait, question ? "" : next.run ? waiting(next) : "");
    write(learnt, next.learnt?.text);
    tiles.hidden = buttons.hidden = keys.hidden = !question;
    if (!question) {
      key = null;
      picked = [];
      drop();
      tiles.replaceChildren();
      order.hidden = true;
      buttons.hidden = !next.undo; // the last answer can still be taken back
    }
    for (const each of [done, rank, none, skip]) each.hidden = !question;
    if (question) {
      if (other) write(said, "");
      if (other || !storing) [picked, ranking] = [question.picked, question.ranking];
      if (question.key !== key) {
        const focused = element.contains(document.activeElement) || fit;
        fill(question);
        if (focused) element.focus({ preventScroll: true });
      }
    }
    mark();
  }

  const asked = feed(ask, PATH, shown, ({ answer: now, failed }) => {
    if (failed) write(said, "The server does not answer. Trying again ...");
    else if (said.textContent.startsWith("The server")) write(said, "");
    if (now) show(now);
  });
  for (const each of [count, prompt, wait, said, learnt]) each.hidden = true;

  return {
    element,
    hear: () => asked.ask(),
    focus: () => element.focus(),
    destroy() {
      asked.end();
      sized.disconnect();
      drop();
      key = null;
    },
  };
}
