/** Active learning: offers the photos that the model is least sure about, whose marks would teach it most. */

import { byId, counted } from "./dom.js";
import { arrangePhotos } from "./gallery.js";
import { focusFirst } from "./marking.js";

const JUDGED_AT_ONCE = 24;

let label = null; // the label that was taught
let doubtful = () => [];
let isJudging = false;

/** `markLabel(label)` makes the page mark photos for a label. */
export function listenForJudging(markLabel) {
  byId("judge-next").addEventListener("click", () => {
    const photos = doubtful();
    markLabel(label);
    arrangePhotos(() => photos.filter(({ isRemoved }) => !isRemoved), () => showAll(true));
    showAll(false);
    requestAnimationFrame(focusFirst); // the photos are arranged in this frame
  });
  byId("show-all").addEventListener("click", () => (arrangePhotos(null), requestAnimationFrame(focusFirst)));
}

/** Offers the doubtful ones of `photos`, once these were tagged by the version that the lesson published. */
export function offerJudging({ label: taught, version }, photos) {
  label = taught;
  const isTagged = ({ state, answer }) => state === "done" && answer.version >= version;
  const unmarked = photos.filter((photo) => !photo.marks.has(label) && isTagged(photo));
  const isReady = photos.every(({ state }) => state === "done");
  doubtful = () => mostDoubtful(unmarked).slice(0, JUDGED_AT_ONCE);
  const count = Math.min(JUDGED_AT_ONCE, unmarked.length);
  byId("judge-next").hidden = isJudging || !isReady || count === 0;
  byId("judge-next").textContent = `Judge the ${counted(count, "most doubtful photo")} next`;
}

/** Returns the photos whose score is nearest its threshold first. */
function mostDoubtful(photos) {
  const doubt = new Map();
  for (const photo of photos) {
    const tag = photo.judged.scores.find((entry) => entry.label === label);
    doubt.set(photo, tag ? Math.abs(tag.score - tag.threshold) : Infinity);
  }
  return photos.sort((one, other) => doubt.get(one) - doubt.get(other));
}

function showAll(isShown) {
  isJudging = !isShown;
  byId("show-all").hidden = isShown;
  byId("judge-next").hidden = !isShown;
}
