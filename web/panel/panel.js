// The panel: all runs, or one of them, in a container that it is given. It imports nothing of the host.
import { compareView } from "./compare.js";
import { el } from "./dom.js";
import { personView } from "./person.js";
import { runView } from "./run.js";
import { runsView } from "./runs.js";

const TICK = 10_000; // ms: times that are told relative to now
const STYLE = new URL("panel.css", import.meta.url).href;

const tables = new Set(); // keys of the charts that are shown as tables, also when the panel is opened again

// `fetch(path, options)` asks the server. `onEvent(listener)` calls listener(name) when something of that run is new,
// listener(null) when anything may be, and gives a function that ends it; `onAsked(listener)` likewise when a person is
// asked something. `enlarge` shows the question in a window. `now()` is the time in ms. `host` is what editor.js makes of
// the host's editor; null where there is none.
// Gives a function that takes the panel away.
export function mount(container, { fetch, onEvent, onAsked, enlarge, now = Date.now, host: editor = null }) {
  const body = el("div", { class: "pave-body" });
  const style = el("link", { rel: "stylesheet", href: STYLE, onload: styled, onerror: styled });
  const shown = () => !document.hidden && root.getClientRects().length > 0;
  const root = el("div", { class: "pave-panel", style: "visibility: hidden" }, style, body);
  const person = personView(fetch, shown, { enlarge });
  root.insertBefore(person.element, body);
  const host = { fetch, now, tables, editor, shown };
  let view = null;
  let list = null; // the last answer

  function styled() {
    root.style.visibility = "";
    view?.repaint();
  }

  function show(next) {
    view?.destroy();
    view = next;
    body.replaceChildren(view.element);
    root.scrollIntoView(); // whichever of those around it scrolls
  }

  function open(name) {
    list = view.answered?.() ?? list;
    show(runView(name, host, () => openList(name), removed));
  }

  function removed(text) {
    list = null; // it has the run still
    openList(null);
    view.say(text);
  }

  function compare(names) {
    list = view.answered?.() ?? list;
    show(compareView(names, host, () => openList(names[0])));
    view.focus();
  }

  function openList(from) {
    show(runsView(host, openByHand, compare));
    if (list) view.recall(list);
    view.focus(from);
  }

  function openByHand(name) {
    open(name);
    view.focus();
  }

  // Of a list that was not opened by hand: whoever opens the panel and presses Run sees the run.
  function openLive({ live }) {
    if (live !== null) open(live);
    return live !== null;
  }

  const hear = (name) => {
    view.hear(name);
    person.hear();
  };
  container.append(root);
  let width = root.clientWidth; // 0 in a container that the host has not put into the page yet
  const seen = new ResizeObserver(() => {
    if (width === 0 && root.clientWidth > 0) hear(null); // it was hidden, or not in the page yet, and is shown
    width = root.clientWidth;
  });
  seen.observe(root);
  show(runsView(host, openByHand, compare, openLive));
  person.hear(); // only now is it in the page, and shown
  const silence = onEvent(hear);
  const deaf = onAsked(person.hear);
  const turned = () => document.hidden || hear(null);
  document.addEventListener("visibilitychange", turned);
  const timer = setInterval(() => view.tick(), TICK);

  return () => {
    silence();
    deaf();
    person.destroy();
    seen.disconnect();
    clearInterval(timer);
    document.removeEventListener("visibilitychange", turned);
    view.destroy();
    root.remove();
  };
}
