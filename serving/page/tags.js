/** The chips of one photo's tags: those of the model, those that a person added, and those that a person removed. */

import { make } from "./dom.js";

const CHIPS_SHOWN = 40;

/** Shows the tags of `judged` in `list`, and returns how many are left out. A chip in focus keeps the focus. */
export function listTags(list, { tags, removed = [] }) {
  const shown = tags.slice(0, CHIPS_SHOWN);
  const kindOf = new Map(shown.map(({ label, by }) => [label, by === "person" ? "added" : "given"]));
  for (const label of removed) kindOf.set(label, "removed");
  const itemOf = new Map([...list.children].map((item) => [item.firstElementChild.dataset.label, item]));
  const items = [...kindOf.keys()].map((label) => itemOf.get(label) ?? makeItem(label));
  for (const item of items) showKind(item, kindOf.get(item.firstElementChild.dataset.label));
  const isSame = items.length === list.children.length && items.every((item, at) => item === list.children[at]);
  if (!isSame) keepFocus(list, () => list.replaceChildren(...items));
  return Math.max(0, tags.length - CHIPS_SHOWN);
}

function makeItem(label) {
  const chip = make("button", "see chip", label);
  const fix = make("button", "fix");
  for (const button of [chip, fix]) button.type = "button";
  chip.dataset.label = label;
  fix.tabIndex = -1; // the keys on the chip do the same, and Tab should not stop at each
  return make("li", "tag", chip, fix);
}

function showKind(item, kind) {
  const [chip, fix] = item.children;
  item.dataset.kind = kind;
  fix.textContent = kind === "removed" ? "↶" : "×";
  fix.ariaLabel = kind === "removed" ? `Put the tag ${chip.textContent} back` : `Remove the tag ${chip.textContent}`;
  chip.ariaDescription = kind === "given" ? null : kind;
}

/** If the chip in focus is gone after `change`, the nearest button of its photo gets the focus. */
function keepFocus(list, change) {
  const focused = document.activeElement;
  const isOurs = list.contains(focused);
  change();
  if (!isOurs || document.activeElement === focused) return;
  const next = focused.isConnected ? focused : list.closest(".labels").querySelector(".see, .add-tag");
  next?.focus();
}
