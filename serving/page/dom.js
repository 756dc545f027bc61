/** Small DOM helpers. Labels and file names are untrusted: they only ever become text nodes. */

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
 * A list of what `build` makes of each item. What exceeds `limit` (a model may know hundreds of labels) folds away
 * behind a click, and is not even built before it: a page of many photos would hold a hundred thousand elements.
 * `onUnfold` is called once the rest is there.
 */
export function foldedList(items, limit, className, build, onUnfold = () => {}) {
  const list = (part) => make("ul", className, ...part.map(build));
  if (items.length <= limit) return [list(items)];
  const rest = items.slice(limit);
  const details = make("details", "", make("summary", "", `${rest.length} more`));
  details.addEventListener("toggle", () => (details.append(list(rest)), onUnfold()), { once: true });
  return [list(items.slice(0, limit)), details];
}

/** `task`, at most once a frame however often it is called: sliders and typing come faster than pages are drawn. */
export function oncePerFrame(task) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => ((asked = false), task()));
  };
}
