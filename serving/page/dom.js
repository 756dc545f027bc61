/** Small DOM helpers. Labels and file names are untrusted, so they are only ever inserted as text nodes. */

const UNFOLDED = 200; // items; a person who looks for one of more uses the search field

export const byId = (id) => document.getElementById(id);

export const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

export function make(tag, className = "", ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

/** 1 photo, 2 photos */
export const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/**
 * Lists what `build` makes of each item. Items beyond `limit` are folded away, because a model may know hundreds of
 * labels. They are built only when a person unfolds them, some at a time: a page of many photos would otherwise hold a
 * hundred thousand elements. Then `onUnfold` is called.
 */
export function foldedList(items, limit, className, build, onUnfold = () => {}) {
  const list = (part) => make("ul", className, ...part.map(build));
  if (items.length <= limit) return [list(items)];
  const rest = items.slice(limit);
  const details = make("details", "", make("summary", "", `${rest.length} more`));
  const unfold = () => (details.append(...foldedList(rest, UNFOLDED, className, build, onUnfold)), onUnfold());
  details.addEventListener("toggle", unfold, { once: true });
  return [list(items.slice(0, limit)), details];
}

/** Runs `task` at most once per frame: sliders and typing cause more events than the browser draws frames. */
export function oncePerFrame(task) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => ((asked = false), task()));
  };
}
