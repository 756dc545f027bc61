/** Puts the cards in an order, and hides those that are left out. */

/**
 * Shows only `shown`, in this order; `all` are the cards of `list`. Cards that are in their place already are not
 * touched, and the focus stays where it is, also on a card that moves.
 */
export function arrangeCards(list, shown, all) {
  const isShown = new Set(shown);
  for (const node of all) node.hidden = !isShown.has(node);
  const focused = document.activeElement;
  let there = list.firstElementChild;
  for (const node of [...shown, ...all.filter((other) => !isShown.has(other))]) {
    if (node === there) there = there.nextElementSibling;
    else list.insertBefore(node, there);
  }
  if (focused !== document.activeElement) focused.focus({ preventScroll: true });
}

/** Returns the shown card after `node`, or the one before it, or null. */
export function neighbourOf(node) {
  const near = (step) => {
    let other = node[step];
    while (other?.hidden) other = other[step];
    return other;
  };
  return near("nextElementSibling") ?? near("previousElementSibling");
}
