/** Says what a lesson taught, in words for a person who knows photos and not statistics. */

import { byId, counted, make } from "./dom.js";

const DOUBTS_SHOWN = 6;
const VERDICTS = [ // by average precision
  [0.9, "It tells these photos apart very well."],
  [0.75, "It tells these photos apart well."],
  [0.5, "It tells these photos apart only roughly."],
  [0, "It hardly tells these photos apart. Mark more photos and teach again, or undo it."],
];

/**
 * @param {object} result the answer of /v1/teach
 * @param {Photo[]} given the photos, in the order in which they were sent
 * @param {(photo: Photo) => void} goTo shows a photo
 * @returns {string} a sentence to announce
 */
export function showLearned(result, given, goTo) {
  const { label, improved, model, version } = result;
  byId("learned-title").textContent = `${improved ? "Improved" : "Learned"}: ${label}`;
  const photos = `${counted(result.photos_with, "photo")} with it and ${result.photos_without} without`;
  const served = `Version ${version} of ${model} has it; all other labels score as before.`;
  byId("learned-from").textContent = `From ${photos}. ${served}`;
  const [, verdict] = VERDICTS.find(([least]) => result.average_precision >= least);
  byId("learned-verdict").textContent = verdict;
  byId("learned-numbers").replaceChildren(...numbers(result));
  byId("learned-advice").textContent = [result.advice ?? "", leftOut(result.left_out)].join(" ").trim();
  showDoubts(result.doubtful.filter(({ index }) => index in given), given, goTo);
  byId("learned").hidden = false;
  return `${byId("learned-title").textContent}. ${byId("learned-verdict").textContent}`;
}

function numbers(result) {
  const threshold = result.threshold.toFixed(2);
  return [
    number("Order", result.average_precision, result.average_precision_spread,
      "Sorted by its score, the photos that have it come first (average precision)."),
    number("Tags", result.f1, result.f1_spread,
      `Few wrong tags and few missing ones (F1, at the threshold ${threshold}).`),
  ];
}

function number(name, value, spread, meaning) {
  const track = make("span", "track", make("span", "fill"), make("span", "spread"));
  track.style.setProperty("--score", value);
  track.style.setProperty("--low", Math.max(0, value - spread));
  track.style.setProperty("--high", Math.min(1, value + spread));
  const numbers = make("span", "bar-numbers", make("b", "", value.toFixed(2)), ` ± ${spread.toFixed(2)}`);
  return make("li", "number", make("b", "", name), numbers, track, make("small", "", meaning));
}

function leftOut(photos) {
  if (photos.length === 0) return "";
  const named = photos.slice(0, 3).map(({ photo, reason }) => `${photo} (${reason.replace(/\.$/, "")})`);
  return `${counted(photos.length, "photo")} left out: ${named.join(", ")}${photos.length > 3 ? " and others" : ""}.`;
}

function showDoubts(doubtful, given, goTo) {
  byId("learned-doubts").hidden = doubtful.length === 0;
  const items = doubtful.slice(0, DOUBTS_SHOWN).map(({ index, given: said, score }) => {
    const why = ` marked ${said}, but its score is ${score.toFixed(2)}`;
    const button = make("button", "doubt", make("b", "", given[index].file.name), why);
    button.type = "button";
    button.addEventListener("click", () => goTo(given[index]));
    return make("li", "", button);
  });
  byId("learned-doubts").querySelector("ul").replaceChildren(...items);
}
