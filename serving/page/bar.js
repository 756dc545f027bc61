/** Shows one label's score as a bar, with a mark at the threshold. */

import { make } from "./dom.js";
import { isTag } from "./thresholds.js";

/** @param {{label: string, score: number, threshold: number}} tag */
export function makeBar(tag) {
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
export function showThreshold(bar, { score, threshold }) {
  // Two digits are easier to read, but a score and a threshold must not look equal when they differ.
  const digits = score.toFixed(2) === threshold.toFixed(2) ? 4 : 2;
  const numbers = [make("b", "", score.toFixed(digits)), `, threshold ${threshold.toFixed(digits)}`];
  bar.querySelector(".bar-numbers").replaceChildren(...numbers);
  bar.querySelector(".track").style.setProperty("--threshold", threshold);
  bar.classList.toggle("chosen", isTag({ score, threshold }));
}
