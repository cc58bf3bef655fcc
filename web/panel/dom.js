// Elements, and text in them: everything that comes from the server goes in as text, so a name can be anything.

export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// Written only where it changes, so that a screen reader says a status line once.
export function write(element, text) {
  const shown = text ?? "";
  if (element.textContent !== shown) element.textContent = shown;
  element.hidden = shown === "";
}

// The children of `parent` for these items, in this order. What stays is not moved, so that it keeps focus and scroll.
export function keyed(parent, known, items, keyOf, make) {
  const wanted = new Set(items.map(keyOf));
  for (const [key, child] of known) {
    if (wanted.has(key)) continue;
    child.destroy?.();
    child.element.remove();
    known.delete(key);
  }
  items.forEach((item, place) => {
    const key = keyOf(item);
    if (!known.has(key)) known.set(key, make(item));
    const { element } = known.get(key);
    if (parent.children[place] !== element) parent.insertBefore(element, parent.children[place] ?? null);
    known.get(key).update(item);
  });
}
