/** Marking photos for one label: all cards become small, and each gets the buttons "Yes" and "No". */

import { mark } from "./marks.js";
import { expectCards } from "./nearby.js";

const MARKS = { y: true, n: false, u: null };
const SAID = { y: "yes", n: "no", u: "not marked" };

let root = null; // holds the cards
let label = null; // what is marked, or null
let photoOf = () => null;
let announce = () => {};

/** @param {(card: Element) => Photo} photoAt  @param {(sentence: string) => void} say announces a sentence */
export function listenForMarking(cards, photoAt, say) {
  [root, photoOf, announce] = [cards, photoAt, say];
  root.addEventListener("click", ({ target }) => {
    const button = target.closest(".marker button");
    if (button) toggle(button);
  });
  root.addEventListener("keydown", pressed);
  root.addEventListener("focusin", ({ target }) => target.matches(".has") && stopAt(target));
}

/** Marks photos for `name`; null ends that. */
export function markFor(name) {
  if ((name === null) !== (label === null)) expectCards(name !== null);
  label = name;
  root.closest(".results").classList.toggle("marking", name !== null);
}

/** Shows what is marked on these photos, new ones among them. */
export function showMarkers(photos) {
  for (const photo of photos) showMarker(photo);
  if (label !== null && !root.querySelector('.has[tabindex="0"]')?.checkVisibility()) stopAt(markable()[0]);
}

/** Shows what is marked on one photo. */
export function showMarker({ card: { node }, file, marks, state, judged }) {
  if (label === null) return;
  const tag = state === "done" ? judged.scores.find((entry) => entry.label === label) : undefined;
  node.querySelector(".score-note").textContent = tag?.score.toFixed(2) ?? "";
  const has = marks.get(label);
  const said = has === undefined ? "none" : has ? "yes" : "no";
  const name = `Yes: ${file.name} shows ${label}`;
  const [yes, no] = node.querySelectorAll(".marker button");
  if (node.dataset.mark === said && yes.ariaLabel === name) return;
  node.dataset.mark = said;
  yes.ariaLabel = name;
  no.ariaLabel = `No: ${file.name} does not show ${label}`;
  yes.ariaPressed = String(has === true);
  no.ariaPressed = String(has === false);
}

/** Moves the focus to the first photo that is not marked, or to the first one. */
export function focusFirst() {
  const buttons = markable();
  (buttons.find((button) => button.closest(".card").dataset.mark === "none") ?? buttons[0])?.focus();
}

/** Moves the focus to the photo whose card is `node`, and shows it. */
export function focusOn(node) {
  node.querySelector(".has").focus();
  node.scrollIntoView({ block: "center" });
}

function markable() {
  return [...root.querySelectorAll('.card:not([hidden], [data-state="failed"]) .has')];
}

/** Tab stops at one photo only, and arrow keys move between the photos. */
function stopAt(button) {
  for (const other of root.querySelectorAll('.has[tabindex="0"]')) other.tabIndex = -1;
  if (button) button.tabIndex = 0;
}

function toggle(button) {
  const wasPressed = button.ariaPressed === "true";
  mark(photoOf(button.closest(".card")), label, wasPressed ? null : button.matches(".has"));
}

function pressed(event) {
  const { key, target } = event;
  if (!target.matches(".has") || event.ctrlKey || event.metaKey || event.altKey) return;
  const buttons = markable();
  const at = buttons.indexOf(target);
  const to = destination(key, at, buttons);
  if (to === null) return;
  event.preventDefault();
  if (key in MARKS) {
    const photo = photoOf(target.closest(".card"));
    mark(photo, label, MARKS[key]);
    announce(`${photo.file.name}: ${SAID[key]}.`);
  }
  buttons[Math.min(buttons.length - 1, Math.max(0, to))].focus();
}

/** Returns the place of the photo to go to, or null for another key. A mark moves on to the next photo. */
function destination(key, at, buttons) {
  switch (key) {
    case "u": return at;
    case "y": case "n": case "ArrowRight": return at + 1;
    case "ArrowLeft": return at - 1;
    case "ArrowDown": return at + rowLength(buttons);
    case "ArrowUp": return at - rowLength(buttons);
    case "Home": return 0;
    case "End": return Infinity;
    default: return null;
  }
}

function rowLength(buttons) {
  const tops = buttons.map((button) => button.closest(".card").offsetTop);
  const length = tops.findIndex((top) => top !== tops[0]);
  return length === -1 ? buttons.length : length;
}
