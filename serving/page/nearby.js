/** Tracks which cards are near the visible part of the page. Only these hold pictures and labels, to save memory. */

const MARGIN = "3000px 0px"; // a few screens, so cards are filled before a person scrolls to them

const watchers = new WeakMap();
const observer = new IntersectionObserver(tell, { rootMargin: MARGIN });

/** Calls `then(isNear)` now, and whenever `node` comes near the visible part or leaves it. */
export function watchNearness(node, then) {
  watchers.set(node, then);
  observer.observe(node);
}

export function forgetNearness(node) {
  watchers.delete(node);
  observer.unobserve(node);
}

function tell(entries) {
  for (const { isIntersecting, target } of entries) watchers.get(target)?.(isIntersecting);
}
