/** Lets a person correct a photo's tags: remove one, put it back, or add one, also a word that the model lacks. */

import { make } from "./dom.js";
import { wasTold } from "./feedback.js";
import { mark } from "./marks.js";

const KEYS = { y: true, n: false, Delete: false, Backspace: false, u: null };

/**
 * @param {Element} root holds the cards; its class `corrects` says whether tags can be corrected
 * @param {(card: Element) => Photo} photoOf
 * @param {(text: string) => string[]} namesOf returns the labels that a person means
 */
export function listenForCorrections(root, photoOf, namesOf) {
  const photoAt = (element) => photoOf(element.closest(".card"));
  const isOn = () => root.classList.contains("corrects");

  root.addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (button?.matches(".fix")) fix(photoAt(button), button.parentElement);
    if (button?.matches(".add-tag")) askForTag(button, (text) => addTags(photoAt(button), namesOf(text)));
  });
  root.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (!isOn() || !target.matches(".see") || !(key in KEYS) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    mark(photoAt(target), target.closest("[data-label]").dataset.label, KEYS[key]);
  });
}

function addTags(photo, labels) {
  for (const label of labels) mark(photo, label, true);
}

/** Removes a tag, or puts it back. What a person said is taken back, unless the server knows it already. */
function fix(photo, item) {
  const { label } = item.firstElementChild.dataset;
  const { kind } = item.dataset;
  mark(photo, label, kind === "given" || wasTold(photo, label) ? kind === "removed" : null);
}

/** Shows a field in the place of `button` until a person has written a tag, or leaves the field. */
function askForTag(button, then) {
  const field = make("input", "tag-field");
  Object.assign(field, { maxLength: 200, ariaLabel: "Tag to add", autocomplete: "off" });
  field.setAttribute("list", "known-labels");
  let isOpen = true;
  const close = () => {
    if (!isOpen) return;
    isOpen = false; // removing a field in focus causes a blur
    field.replaceWith(button);
  };
  field.addEventListener("blur", close);
  field.addEventListener("keydown", (event) => {
    const { key } = event;
    if (key !== "Enter" && key !== "Escape") return;
    event.preventDefault(); // otherwise Enter would press the button, which gets the focus
    const word = field.value.trim();
    close();
    if (key === "Enter" && word) then(word);
    button.focus();
  });
  button.replaceWith(field);
  field.focus();
}
