// One address, asked whenever something of it is new.
// One request at a time, so an older answer never comes after a newer one; at most one a second; again after a failure.

const APART = 1000; // ms between the starts of two requests
const AGAIN = 1500; // ms after a failure
const PATIENCE = 30_000; // ms: a server that trains answers slowly

// `ask` is fetch. `heard` gets {answer}, {missing: text} (there is no such thing) or {failed: true}.
// `shown` says whether anybody looks: else nothing is asked until `ask()` is called again.
export function feed(ask, path, shown, heard) {
  let running = null;
  let timer = null;
  let wanted = false;
  let begun = -Infinity;
  let ended = false;

  function next(wait) {
    wanted = true;
    if (ended || running || timer !== null || !shown()) return;
    timer = setTimeout(send, Math.max(wait, begun + APART - performance.now(), 0));
  }

  async function send() {
    timer = null;
    if (!shown()) return;
    wanted = false;
    begun = performance.now();
    running = new AbortController();
    const patience = setTimeout(() => running.abort(), PATIENCE);
    const result = await answer(ask, path, running.signal);
    clearTimeout(patience);
    running = null;
    if (ended) return;
    heard(result);
    if (ended) return; // the view has been left for another
    if (result.failed) next(AGAIN);
    else if (wanted) next(0);
  }

  next(0);
  return {
    ask: () => next(0),
    end() {
      ended = true;
      clearTimeout(timer);
      running?.abort();
    },
  };
}

async function answer(ask, path, signal) {
  try {
    const response = await ask(path, { signal, cache: "no-store" });
    const body = await response.json();
    if (response.ok) return { answer: body };
    if (response.status === 404 && typeof body?.error === "string") return { missing: body.error };
  } catch {
    // Not reached, or it has answered with something else than JSON: the same to who looks.
  }
  return { failed: true };
}
