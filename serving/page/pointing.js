/** Shows where the model looked for a label that a person points at or focuses. A click keeps it shown. */

const SETTLE = 120; // milliseconds; a mouse that only crosses a label sends no request

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -Infinity, End: Infinity };

/**
 * @param {Element} root holds the cards
 * @param {(card: Element) => Photo} photoOf
 * @param {(sentence: string) => void} announce
 * @param {(photo: Photo, label: string) => void} showAlike
 */
export function listenForPointing(root, photoOf, announce, showAlike) {
  let pointed = null; // the photo
  let current = null; // the label's element
  let timer;

  const point = (target, settle = SETTLE) => {
    clearTimeout(timer);
    const item = target?.closest?.("[data-label]") ?? null;
    current = item;
    const photo = item ? photoOf(item.closest(".card")) : null;
    if (pointed && pointed !== photo) pointed.point(null);
    pointed = photo;
    if (!item) return;
    timer = setTimeout(async () => {
      const sentence = await photo.point(item.dataset.label);
      if (sentence && item.contains(document.activeElement)) announce(sentence);
    }, settle);
  };

  const hide = (photo) => {
    if (photo.pinned !== null) photo.pin(photo.pinned);
    point(null);
  };

  // pointermove, not pointerenter: a label that scrolls under a resting mouse is not pointed at.
  root.addEventListener("pointermove", ({ pointerType, target }) => {
    if (pointerType === "mouse" && target.closest("[data-label]") !== current) point(target);
  });
  root.addEventListener("pointerleave", () => point(null));
  root.addEventListener("focusin", (event) => point(event.target));
  root.addEventListener("focusout", (event) => root.contains(event.relatedTarget) || point(null));
  const showMore = (button) => {
    const photo = photoOf(button.closest(".card"));
    if (button.checkVisibility()) showAlike(photo, photo.pinned);
  };

  root.addEventListener("click", ({ target }) => {
    if (target.matches(".more-alike")) showMore(target);
    const item = target.closest("[data-label]");
    if (!item) return;
    point(photoOf(item.closest(".card")).pin(item.dataset.label) ? item : null, 0);
    current = item; // the mouse is still over it, and moving there must not undo the click
  });
  root.addEventListener("keydown", (event) => {
    if (!event.target.matches(".see")) return;
    if (event.key in STEPS) move(event);
    if (event.key === "Escape") hide(photoOf(event.target.closest(".card")));
    if (event.key === "m") showMore(event.target.closest(".card").querySelector(".more-alike"));
  });
}

/** Arrow keys move between the labels of one photo, so Tab does not have to stop at each. */
function move(event) {
  const card = event.target.closest(".card");
  const buttons = [...card.querySelectorAll(".see")].filter((button) => button.checkVisibility());
  const from = buttons.indexOf(event.target);
  const to = Math.min(buttons.length - 1, Math.max(0, from + STEPS[event.key]));
  event.preventDefault();
  for (const button of buttons) button.tabIndex = button === buttons[to] ? 0 : -1;
  buttons[to].focus();
}
