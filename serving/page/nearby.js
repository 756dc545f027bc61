/** Cards near the window. Only those have their pictures and labels, so that hundreds of photos cost little. */

const MARGIN = "3000px 0px"; // a few windows: scrolling meets what is there already

const watchers = new WeakMap();
const observer = new IntersectionObserver(tell, { rootMargin: MARGIN });

/** Call `then(isNear)` now and whenever `node` comes near the window or leaves. */
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
