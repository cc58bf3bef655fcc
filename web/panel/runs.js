// The list of all runs, the live one on top.
import { actions } from "./actions.js";
import { badge } from "./badge.js";
import { el, keyed, write } from "./dom.js";
import { feed } from "./feed.js";
import { fetched } from "./group.js";
import { spark } from "./spark.js";
import * as words from "./words.js";

const EMPTY = "There are no runs yet: open the template quickstart of Pave-GRPO and press Run.";
const COMPARE = ["Compare two", "Choose one more", "Compare"]; // by how many are chosen
const NEAR = "200px"; // of the edge of what is seen: from there on pictures are fetched

// What a run has learnt, as a picture; fetched once it is in sight, and again when there is another.
function thumbnail(path, ask, sight) {
  let version = null; // of what is shown, or is on its way
  let next = null;
  let address = null;
  let seen = false;
  let ended = false;
  const image = el("img", { alt: "", hidden: "" });
  const element = el("span", { class: "pave-thumb" }, image);

  async function load() {
    if (!seen || ended || next === version) return;
    version = next;
    if (!next) return (image.hidden = true);
    const asked = next;
    try {
      const blob = await fetched(ask, `${path}/preview?${encodeURIComponent(asked)}`);
      if (ended || asked !== version) return;
      URL.revokeObjectURL(address);
      image.src = address = URL.createObjectURL(blob);
      image.hidden = false;
    } catch {
      version = null; // with the next answer
    }
  }

  const stop = sight(element, () => {
    seen = true;
    load();
  });
  return {
    element,
    update(picture) {
      next = picture ?? null;
      load();
    },
    destroy() {
      ended = true;
      stop();
      URL.revokeObjectURL(address);
    },
  };
}

// `at` is what the list does with a run: {open, choose, removed, sight}.
function row(name, host, at) {
  const status = badge();
  const step = el("span");
  const reward = el("span");
  const gain = el("span");
  const megabytes = el("span");
  const time = el("time");
  const curve = spark();
  const picture = thumbnail(`/pave/runs/${encodeURIComponent(name)}`, host.fetch, at.sight);
  const facts = el("span", { class: "pave-facts" }, step, reward, gain, megabytes, time, curve.element);
  const head = el("span", { class: "pave-head" }, el("span", { class: "pave-name" }, name), status.element);
  const text = el("span", { class: "pave-row-text" }, head, facts);
  const button = el(
    "button",
    { type: "button", class: "pave-row", onclick: () => at.open(name) },
    picture.element,
    text,
  );
  const box = el("input", {
    type: "checkbox",
    "aria-label": `Compare ${name}`,
    title: "Compare with another run",
    onchange: () => at.choose(name, box.checked),
  });
  const more = el("button", {
    ...{ type: "button", class: "pave-button pave-more", title: "Resume, open, copy, delete" },
    ...{ "aria-label": `Actions of ${name}`, "aria-expanded": "false", onclick: turn },
  }, "⋯");
  const acting = actions(name, host, at.removed);
  acting.element.hidden = true;

  function turn() {
    acting.element.hidden = !acting.element.hidden;
    more.setAttribute("aria-expanded", String(!acting.element.hidden));
  }

  return {
    element: el("li", { class: "pave-item" }, button, el("span", { class: "pave-side" }, box, more), acting.element),
    button,
    update({ run, live, now, chosen }) {
      button.classList.toggle("pave-live", live);
      status.update(run.status);
      write(step, words.steps(run.step, run.steps));
      write(reward, typeof run.reward === "number" ? `reward ${words.number(run.reward, 3)}` : "");
      write(gain, run.gain && words.gain(run.gain));
      write(megabytes, words.size(run.megabytes));
      write(time, words.ago(run.modified, now / 1000));
      time.dateTime = new Date(run.modified * 1000).toISOString();
      curve.update(run.curve ?? []);
      picture.update(run.picture);
      box.checked = chosen;
      acting.update(run);
    },
    destroy: picture.destroy,
  };
}

// `host` is {fetch, shown, now, editor}; `open` is called with a name, `compare` with two; `answers` with each answer,
// before it is shown: true if another view has taken over.
export function runsView(host, open, compare, answers) {
  let answered = null;
  let chosen = []; // the names of those that are to be compared
  const trouble = el("p", { class: "pave-trouble", role: "status" });
  const hint = el("p", { class: "pave-hint" });
  const said = el("p", { class: "pave-outcome", role: "status" });
  const list = el("ul", { class: "pave-runs", "aria-label": "Runs" });
  const both = el("button", { type: "button", class: "pave-button pave-small", onclick: () => compare(chosen) });
  const head = el("div", { class: "pave-head" }, el("h2", {}, "Runs"), both);
  const element = el("div", {}, head, trouble, hint, said, list);
  trouble.hidden = said.hidden = both.hidden = true;
  write(hint, "Loading ...");
  const known = new Map();

  const noticed = new Map(); // element -> called once it is in sight
  const eye = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        eye.unobserve(target);
        noticed.get(target)?.();
      }
    },
    { rootMargin: NEAR },
  );
  function sight(target, seen) {
    noticed.set(target, seen);
    eye.observe(target);
    return () => {
      noticed.delete(target);
      eye.unobserve(target);
    };
  }

  function choose(name, on) {
    chosen = [...chosen.filter((each) => each !== name), ...(on ? [name] : [])].slice(-2);
    show();
  }

  function say(text) {
    write(said, text);
    if (answered) asked.ask();
  }

  function show() {
    if (!answered) return;
    const { live, runs } = answered;
    const now = host.now();
    chosen = chosen.filter((name) => runs.some((run) => run.name === name));
    const items = runs.map((run) => ({ run, live: run.name === live, now, chosen: chosen.includes(run.name) }));
    items.sort((a, b) => b.live - a.live); // stable: else newest first, as they came
    write(hint, runs.length ? "" : EMPTY);
    write(both, COMPARE[chosen.length]);
    both.hidden = runs.length < 2;
    both.disabled = chosen.length < 2;
    const at = { open, choose, removed: say, sight };
    keyed(list, known, items, ({ run }) => run.name, ({ run }) => row(run.name, host, at));
  }

  const asked = feed(host.fetch, "/pave/runs", host.shown, ({ answer, missing, failed }) => {
    write(trouble, failed ? "The server does not answer. Trying again ..." : missing);
    if (!answer) return write(hint, answered ? hint.textContent : "");
    answered = answer;
    if (!answers?.(answer)) show();
  });

  return {
    element,
    hear: () => asked.ask(),
    focus: (name) => known.get(name)?.button.focus(),
    // A list that was shown before is shown at once, until the server has answered.
    recall(answer) {
      answered = answer;
      show();
    },
    say,
    answered: () => answered,
    tick() {
      show();
      if (answered?.live) asked.ask(); // an event may have been lost
    },
    repaint() {},
    destroy() {
      asked.end();
      eye.disconnect();
      for (const each of known.values()) each.destroy();
    },
  };
}
