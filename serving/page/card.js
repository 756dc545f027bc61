/** Shows one photo with its tags and scores. */

import { byId, counted, foldedList, make } from "./dom.js";
import { forgetNearness, watchNearness } from "./nearby.js";
import { listTags } from "./tags.js";
import { isTag } from "./thresholds.js";
import { Thumbnail } from "./thumbnail.js";
import { drawWhere } from "./where.js";

export const BARS_SHOWN = 8; // at least
const TAGS_SHOWN = 12; // as bars, with the few below them
const NEXT_SHOWN = 4;

export class Card {
  constructor(file) {
    this.node = byId("card").content.cloneNode(true).firstElementChild;
    this.image = this.find("img");
    this.judged = null;
    this.search = (tags) => tags;
    this.pinned = null;
    this.isNear = false;
    this.find(".name").textContent = file.name;
    this.find(".labels").ariaLabel = `Labels of ${file.name}. Select one to see where the model looked for it`;
    this.find(".remove").ariaLabel = `Remove ${file.name}`;
    this.find(".retry").ariaLabel = `Try ${file.name} again`;
    // The server reads formats that browsers cannot show (TIFF, HEIC), so a missing preview is not an error.
    const noPreview = () => this.image.replaceWith(make("span", "no-preview", extension(file.name)));
    this.thumbnail = new Thumbnail(this.image, file, noPreview);
    watchNearness(this.node, (isNear) => (isNear ? this.come() : this.leave()));
  }

  come() {
    if (this.isNear) return;
    this.isNear = true;
    this.thumbnail.show();
    if (this.judged) this.drawLabels();
  }

  leave() {
    if (!this.isNear || this.node.contains(document.activeElement)) return;
    this.isNear = false;
    this.thumbnail.hide();
    this.find(".tags").replaceChildren();
    this.find(".scores").replaceChildren();
  }

  find(selector) {
    return this.node.querySelector(selector);
  }

  show(state, status) {
    this.node.dataset.state = state;
    this.node.ariaBusy = String(state === "sending");
    this.find(".status").textContent = status;
  }

  /** Adds a line below the status. */
  showDetail(text) {
    this.find(".status").append(make("small", "detail", text));
  }

  /** Shows chips for the tags, and bars for what `search` finds among the scores. Most bars are folded away. */
  showLabels(judged, search) {
    this.judged = judged;
    this.search = search;
    if (this.isNear) this.drawLabels();
  }

  /** Shows the same labels with changed thresholds. The bars keep their places, so a person can follow the change. */
  showThresholds(judged) {
    this.judged = judged;
    if (this.isNear) this.refresh();
  }

  drawLabels() {
    const found = this.search(this.judged.scores, ({ label }) => label);
    const lastTag = found.findLastIndex(isTag);
    const shown = Math.max(BARS_SHOWN, Math.min(TAGS_SHOWN, lastTag + 1) + NEXT_SHOWN);
    const bars = foldedList(found, shown, "bars", makeBar, () => this.refresh());
    this.find(".scores").replaceChildren(...(found.length ? bars : [make("p", "none-found", "No such label.")]));
    this.showTags();
  }

  refresh() {
    const tagOf = new Map(this.judged.scores.map((tag) => [tag.label, tag]));
    for (const bar of this.node.querySelectorAll(".bar")) showThreshold(bar, tagOf.get(bar.dataset.label));
    this.showTags();
  }

  showTags() {
    const more = listTags(this.find(".tags"), this.judged);
    this.find(".more-tags").textContent = more ? `and ${counted(more, "more tag")}` : "";
    this.press(this.pinned);
  }

  /** Marks the pinned label. Tab stops at one label only, and arrow keys move between the labels. */
  press(pinned) {
    this.pinned = pinned;
    const more = this.find(".more-alike");
    more.hidden = pinned === null;
    more.ariaLabel = `More like this: photos whose ${pinned} looks similar`;
    this.showCaption();
    const buttons = [...this.node.querySelectorAll(".see")];
    const stop = buttons.find((button) => button === document.activeElement) ?? buttons[0];
    for (const button of buttons) {
      button.ariaPressed = String(button.closest("[data-label]").dataset.label === pinned);
      button.tabIndex = button === stop ? 0 : -1;
    }
  }

  showWhere(explained, attention, caption) {
    drawWhere(this.find("canvas"), explained, attention);
    this.shape(explained.image.width / explained.image.height);
    this.say(caption, true);
  }

  shape(aspect) {
    this.find(".picture").style.setProperty("--shape", aspect);
  }

  /** Says how alike the photo is to another one. */
  showLikeness(text) {
    this.find(".likeness").textContent = text;
  }

  /** Writes the line on the photo. `isDrawn` says whether the canvas shows the place that the line describes. */
  say(sentence, isDrawn = false) {
    this.find(".where").textContent = sentence;
    this.node.classList.toggle("explained", isDrawn);
    this.showCaption();
  }

  showCaption() {
    this.find(".caption").hidden = this.pinned === null && this.find(".where").textContent === "";
  }

  remove() {
    forgetNearness(this.node);
    this.thumbnail.hide();
    this.node.remove();
  }
}

function extension(name) {
  return (/\.(\w{1,5})$/.exec(name)?.[1] ?? "file").toUpperCase();
}

/**
 * Makes the bar of one label, with a mark at the threshold.
 * @param {{label: string, score: number, threshold: number}} tag
 */
function makeBar(tag) {
  const name = make("button", "see bar-label", tag.label);
  name.type = "button";
  const track = make("span", "track", make("span", "fill"), make("span", "mark"));
  const bar = make("li", "bar", name, make("span", "bar-numbers"), track);
  bar.dataset.label = tag.label;
  track.style.setProperty("--score", tag.score);
  showThreshold(bar, tag);
  return bar;
}

/** Shows a threshold that has changed. */
function showThreshold(bar, { score, threshold }) {
  // Two digits are easier to read, but a score and a threshold must not look equal when they differ.
  const digits = score.toFixed(2) === threshold.toFixed(2) ? 4 : 2;
  const numbers = [make("b", "", score.toFixed(digits)), `, threshold ${threshold.toFixed(digits)}`];
  bar.querySelector(".bar-numbers").replaceChildren(...numbers);
  bar.querySelector(".track").style.setProperty("--threshold", threshold);
  bar.classList.toggle("chosen", isTag({ score, threshold }));
}
