/** Tracks which cards are near the visible part of the page. Only these hold pictures and labels, to save memory. */

const MARGIN = 3000; // pixels: a few screens, so cards are filled before a person scrolls to them
const SMALL_CARDS_MARGIN = 1000; // of small cards, many are in each row

const watchers = new Map(); // node -> what to call
let observer = observe(MARGIN);

/** Calls `then(isNear)` now, and whenever `node` comes near the visible part or leaves it. */
export function watchNearness(node, then) {
  watchers.set(node, then);
  observer.observe(node);
}

export function forgetNearness(node) {
  watchers.delete(node);
  observer.unobserve(node);
}

/** To be called when the cards have become small, or large again. */
export function expectCards(areSmall) {
  observer.disconnect();
  observer = observe(areSmall ? SMALL_CARDS_MARGIN : MARGIN);
  for (const node of watchers.keys()) observer.observe(node);
}

function observe(margin) {
  return new IntersectionObserver(tell, { rootMargin: `${margin}px 0px` });
}

function tell(entries) {
  for (const { isIntersecting, target } of entries) watchers.get(target)?.(isIntersecting);
}
