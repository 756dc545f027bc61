/** One photo: its file, its card on the page, and where it stands (queued, sending, done, failed). */

import { ApiError, tagPhoto } from "./api.js";
import { byId, foldedList, make } from "./dom.js";

const LONGEST_WAIT = 30; // seconds; a server that asks for more gets its next try from the person, not from the page
const BARS_SHOWN = 8;

export class Photo {
  constructor(file) {
    this.file = file;
    this.answer = null;
    this.card = byId("card").content.cloneNode(true).firstElementChild;
    this.aborter = new AbortController();
    this.preview = URL.createObjectURL(file);
    this.find(".name").textContent = file.name;
    this.find(".remove").ariaLabel = `Remove ${file.name}`;
    this.showPreview();
    this.show("queued", "Waiting for its turn");
  }

  find(selector) {
    return this.card.querySelector(selector);
  }

  showPreview() {
    const image = this.find("img");
    const extension = /\.(\w{1,5})$/.exec(this.file.name)?.[1] ?? "file";
    // The server reads formats that browsers cannot show (TIFF, HEIC), so a missing preview is no failure.
    image.addEventListener("error", () => image.replaceWith(make("span", "no-preview", extension.toUpperCase())));
    image.src = this.preview;
  }

  show(state, status = "") {
    this.state = state;
    this.card.dataset.state = state;
    this.card.ariaBusy = String(state === "sending");
    this.find(".status").textContent = status;
  }

  /** Send the photo and show what came; never throws. Resolves to a sentence to announce, or null if removed. */
  async run(model) {
    if (this.aborter.signal.aborted) return null;
    try {
      this.show("sending", "Tagging…");
      this.answer = await this.tagPatiently(model);
      return this.showAnswer();
    } catch (error) {
      return this.aborter.signal.aborted ? null : this.showError(error);
    }
  }

  /** A busy server says when to come back: do so once, unasked. */
  async tagPatiently(model) {
    const { signal } = this.aborter;
    try {
      return await tagPhoto(this.file, model, signal);
    } catch (error) {
      if (!(error.retryAfter <= LONGEST_WAIT)) throw error;
      this.show("sending", `${error.message} Trying again in ${error.retryAfter} s…`);
      await pause(error.retryAfter, signal);
      this.show("sending", "Tagging…");
      return tagPhoto(this.file, model, signal);
    }
  }

  showAnswer() {
    const { model, version, tags, scores } = this.answer;
    const chosen = new Set(tags.map((tag) => tag.label));
    const bars = scores.map((score) => bar(score, chosen.has(score.label)));
    const lastChosen = scores.findLastIndex((score) => chosen.has(score.label));
    this.show("done", tags.length ? `Tagged by ${model}, version ${version}` : "No label reaches its threshold.");
    this.find(".tags").replaceChildren(...tags.map((tag) => make("li", "chip", tag.label)));
    this.find(".scores").replaceChildren(...foldedList(bars, Math.max(BARS_SHOWN, lastChosen + 1), "bars"));
    const names = tags.map((tag) => `${tag.label} ${tag.score.toFixed(2)}`).join(", ");
    return `${this.file.name}: ${names || "no label reaches its threshold"}.`;
  }

  showError(error) {
    const sentence = error instanceof ApiError ? error.message : `The page failed: ${error.message}`;
    this.show("failed", sentence);
    if (error.requestId) this.find(".status").append(make("small", "request-id", `Request ${error.requestId}`));
    return `${this.file.name} failed: ${sentence}`;
  }

  remove() {
    this.aborter.abort();
    URL.revokeObjectURL(this.preview);
    this.card.remove();
  }
}

function bar({ label, score, threshold }, chosen) {
  const name = make("span", "bar-label", label);
  // Two digits read well, unless they would show a score and the threshold it misses as the same number.
  const digits = score.toFixed(2) === threshold.toFixed(2) ? 4 : 2;
  const numbers = make("span", "bar-numbers", make("b", "", score.toFixed(digits)));
  numbers.append(`, threshold ${threshold.toFixed(digits)}`);
  const track = make("span", "track", make("span", "fill"), make("span", "mark"));
  track.style.setProperty("--score", score);
  track.style.setProperty("--threshold", threshold);
  return make("li", chosen ? "bar chosen" : "bar", name, numbers, track);
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
