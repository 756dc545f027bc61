/** The panel "Teach a label": choose a label, mark photos, teach them to the model, and undo that. */

import { ApiError, fetchModels, rollBack } from "./api.js";
import { byId } from "./dom.js";
import { announce, arrangePhotos, photosOnPage, tagAgain } from "./gallery.js";
import { offerJudging } from "./judging.js";
import { showLearned } from "./learned.js";
import { teach } from "./lesson.js";
import { focusFirst, focusOn, markFor, showMarker, showMarkers } from "./marking.js";
import { listenForMarks, markedWith } from "./marks.js";
import { loadModels } from "./models.js";
import { patiently } from "./patience.js";

const LEAST = 3; // photos with the label, and without it; the server refuses fewer
const GOOD_START = [20, 60];

let model = null; // as /v1/models describes it; null if it cannot be taught here
let label = null; // what is marked
let lesson = null; // the aborter of the lesson that runs
let isUndoing = false;
let last = null; // the answer to the last lesson, which can be undone

/** `namesOf(text)` returns the labels that a person means. */
export function listenForTeaching(namesOf) {
  const field = byId("teach-label");
  const names = () => namesOf(field.value);
  const fault = () => (names().length > 1 ? "Teach one label at a time." : "");
  field.addEventListener("input", () => field.setCustomValidity(fault()));
  byId("teach-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (names().length) markLabel(names()[0]);
  });
  byId("teach").addEventListener("toggle", showMode);
  byId("teach-start").addEventListener("click", learn);
  byId("teach-stop").addEventListener("click", () => lesson.abort());
  byId("undo").addEventListener("click", undo);
  listenForMarks((photo) => label !== null && (showMarker(photo), showCounts()));
}

/** Shows the panel if `described` can be taught, and this page may do that. */
export function offerTeaching(described, isAllowed) {
  model = isAllowed && described.teachable ? described : null;
  byId("teach").hidden = model === null;
  byId("teach").open &&= model !== null;
  byId("learned").hidden = last?.model !== described.name;
  showMode();
}

/** To be called when photos have changed. */
export function refreshTeaching() {
  if (model === null || label === null) return;
  if (byId("teach").open) showMarkers(markable());
  showCounts();
}

function showCounts() {
  if (model === null || label === null) return;
  const photos = markable();
  const { yes, no } = markedWith(label, photos);
  const missing = [yes, no].map(({ length }) => Math.max(0, LEAST - length));
  byId("mark-counts").textContent = `${label}: ${yes.length} yes, ${no.length} no.`;
  byId("mark-need").textContent = need(missing, [yes, no]);
  byId("teach-start").disabled = missing[0] + missing[1] > 0;
  if (last) offerJudging(last, photos);
}

/** Opens the panel and makes the page mark photos for the label `name`. */
export function markLabel(name) {
  label = name;
  byId("teach").open = true;
  byId("teach-label").value = name;
  byId("marking").hidden = false;
  byId("teach").classList.add("marks");
  showMode();
  focusFirst();
}

function showMode() {
  markFor(model !== null && byId("teach").open ? label : null);
  refreshTeaching();
}

function markable() {
  return photosOnPage().filter(({ state }) => state !== "failed");
}

function need([yes, no], marked) {
  const parts = [yes && `${yes} yes`, no && `${no} no`].filter(Boolean);
  if (parts.length) return `Still needed: at least ${parts.join(" and ")}.`;
  const isFew = marked.some(({ length }, at) => length < GOOD_START[at]);
  return isFew ? `Enough to try; ${GOOD_START.join(" and ")} are a good start.` : "";
}

async function learn() {
  const { yes, no } = markedWith(label, markable());
  const files = { yes: yes.map(({ file }) => file), no: no.map(({ file }) => file) };
  lesson = new AbortController();
  const { signal } = lesson;
  const [{ name }, word] = [model, label];
  showRunning();
  try {
    const ask = () => (say("Sending the photos…"), teach(name, word, files, signal, showStep));
    const result = await patiently(ask, { signal, onWait: say });
    endLesson("");
    await showResult(result, [...yes, ...no]);
  } catch (error) {
    endLesson(signal.aborted ? "Stopped. Your marks are still here." : error.message);
  }
}

async function showResult(result, given) {
  last = result;
  announce(showLearned(result, given, ({ card }) => focusOn(card.node)));
  arrangePhotos(null);
  byId("learned").focus();
  await loadModels();
  tagAgain(result.model, result.version);
}

async function undo() {
  if (last === null || isUndoing) return;
  isUndoing = true; // the button is not disabled, because it would lose the focus
  const { model: name, version: own, previous_version: before } = last;
  sayOfUndo("Undoing…");
  try {
    await patiently(() => requireNewest(name, own), { onWait: sayOfUndo });
    const { version } = await patiently(() => rollBack(name, before), { onWait: sayOfUndo });
    last = null;
    byId("learned").hidden = true;
    arrangePhotos(null);
    say(`Undone: version ${version} is the same as version ${before}. Your marks are still here.`);
    byId("teach-start").focus();
    await loadModels();
    tagAgain(name, version);
    sayOfUndo("");
  } catch (error) {
    sayOfUndo(error.message);
  }
  isUndoing = false;
}

/** Others may have taught since: going back would undo that, too. */
async function requireNewest(name, own) {
  const { models } = await fetchModels();
  const newest = models.find((described) => described.name === name)?.version;
  if (newest > own) throw new ApiError(`Not undone: version ${newest} was published since, and would be lost, too.`);
}

function sayOfUndo(sentence) {
  byId("learned-status").textContent = sentence;
}

function showRunning() {
  byId("teach-progress").hidden = false;
  byId("teach-progress").removeAttribute("value");
  swap("teach-start", "teach-stop");
}

function endLesson(sentence) {
  lesson = null;
  say(sentence);
  byId("teach-progress").hidden = true;
  swap("teach-stop", "teach-start");
}

/** Shows one button in the place of another, and in its focus. */
function swap(before, after) {
  const hadFocus = document.activeElement === byId(before);
  byId(before).hidden = true;
  byId(after).hidden = false;
  if (hadFocus) byId(after).focus();
}

function showStep({ step, done, of }) {
  const progress = byId("teach-progress");
  if (step === "look") Object.assign(progress, { max: of, value: done });
  else progress.removeAttribute("value");
  if (step === "look") say(`Looking at the photos: ${done} of ${of}`);
  if (step === "fit") say("Learning…");
  if (step === "publish") say("Publishing the new version…");
}

function say(sentence) {
  byId("teach-status").textContent = sentence;
}
