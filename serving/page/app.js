/** The page: photos in, tags out. This module connects its parts. */

import { listenForAlike, refreshAlike, showAlike } from "./alike.js";
import { BARS_SHOWN } from "./card.js";
import { copyOnClick, download } from "./clipboard.js";
import { showCommand } from "./command.js";
import { listenForCorrections } from "./correcting.js";
import { byId, oncePerFrame } from "./dom.js";
import { keepFeedback, listenForFeedback } from "./feedback.js";
import { addFiles, announce, inState, listenForPhotos, photoOf } from "./gallery.js";
import { listenForFiles } from "./intake.js";
import { listenForJudging } from "./judging.js";
import { listenForKey } from "./key.js";
import { listenForMarking } from "./marking.js";
import { listenForMarks } from "./marks.js";
import { chosenModel, listenForModels, loadModels, noticeVersion } from "./models.js";
import { listenForPointing } from "./pointing.js";
import { listenForSliding, showCounts, showRows, showSliders } from "./sliders.js";
import { asCsv, asJson } from "./tables.js";
import { listenForTeaching, markLabel, offerTeaching, refreshTeaching } from "./teaching.js";

const FEW_LABELS = 12; // a person finds one of these without a search field, and each has a slider

let model = null; // the model shown, as /v1/models describes it

const tagged = () => inState("done");

const searched = () => byId("find").value.toLocaleLowerCase().trim();

/** Returns a function that picks the labels that match the search field: first the label that is exactly that. */
function finder() {
  const words = searched();
  const isExact = (label) => label.toLocaleLowerCase() === words;
  return (items, labelOf = (label) => label) => {
    const found = items.filter((item) => labelOf(item).toLocaleLowerCase().includes(words));
    return found.sort((one, other) => isExact(labelOf(other)) - isExact(labelOf(one)));
  };
}

/** Maps each label to the number of photos for which `pick` returns it. */
function count(pick) {
  const counts = new Map();
  for (const { judged } of tagged()) {
    if (judged.model !== model?.name) continue;
    for (const { label } of pick(judged)) counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  return counts;
}

function countTags() {
  showCounts(count(({ tags }) => tags));
}

/** Returns the labels that photos have as a tag or nearly have as one, the most frequent first. */
function shownLabels() {
  const tags = count(({ tags }) => tags);
  const bars = count(({ scores }) => scores.slice(0, BARS_SHOWN));
  const times = (counts, label) => counts.get(label) ?? 0;
  return [...new Set([...tags.keys(), ...bars.keys()])].sort(
    (one, other) => times(tags, other) - times(tags, one) || times(bars, other) - times(bars, one),
  );
}

/** Shows a slider for each label that is searched for or, without a search, for each label that is shown. */
function chooseSliders() {
  if (!model) return;
  const isAll = searched() !== "" || model.labels.length <= FEW_LABELS;
  showRows(isAll ? finder()(model.labels) : shownLabels());
  countTags();
}

/** Returns the model's labels that `text` names, in whatever case, or its words as they are. Commas separate them. */
function namesOf(text) {
  const clean = (word) => word.trim().normalize("NFC");
  const known = (word) => model.labels.find((label) => label.toLocaleLowerCase() === word.toLocaleLowerCase());
  const whole = known(clean(text));
  return whole ? [whole] : text.split(",").map(clean).filter(Boolean).map((word) => known(word) ?? word);
}

/** Offers what this page may do besides tagging. */
function offer(may) {
  const teaches = may.includes("teach");
  const corrects = may.includes("feedback") || (teaches && model.teachable);
  byId("results").classList.toggle("corrects", corrects);
  byId("known-labels").replaceChildren(...(corrects ? model.labels.map((label) => new Option(label)) : []));
  offerTeaching(model, teaches);
  keepFeedback(may.includes("feedback"), model.name);
  const keeps = may.includes("feedback") ? " It keeps the corrections that you make here." : "";
  byId("destination").textContent = `This page sends them only to ${location.host}.${keeps}`;
}

listenForModels((chosen, may) => {
  model = chosen;
  showSliders(model);
  byId("results").classList.toggle("compares", model.outputs.includes("embeddings"));
  byId("finder").hidden = model.labels.length <= FEW_LABELS;
  byId("find").value = "";
  showModes();
  chooseSliders();
  offer(may);
  showCommand(model, chosenModel() === null);
});

listenForPhotos(() => {
  for (const id of ["copy-json", "copy-csv", "save-json", "save-csv"]) byId(id).disabled = tagged().length === 0;
  if (tagged().length) noticeVersion(tagged()[0].answer);
  chooseSliders();
  refreshAlike();
  refreshTeaching();
});

listenForSliding(() => {
  for (const photo of tagged()) photo.showThresholds();
  countTags();
  refreshAlike();
  showCommand(model, chosenModel() === null);
});

listenForMarks(oncePerFrame(() => (countTags(), refreshAlike())));

/** Says in classes what decides about all cards. */
function showModes() {
  const isSearching = document.activeElement === byId("find");
  const modes = { "only-tags": byId("only-tags").checked, searched: searched() !== "", searching: isSearching };
  for (const [name, isOn] of Object.entries(modes)) byId("results").classList.toggle(name, isOn);
}

const find = oncePerFrame(() => {
  showModes();
  chooseSliders();
  for (const photo of tagged()) photo.showLabels(finder());
  refreshAlike();
});

byId("find").addEventListener("input", find);
for (const event of ["focus", "blur"]) byId("find").addEventListener(event, showModes);
byId("only-tags").addEventListener("change", () => (showModes(), tagged().forEach((photo) => photo.showThresholds())));
for (const panel of document.querySelectorAll("details.panel")) {
  const isOpen = () => document.querySelector("details.panel[open]:not([hidden])") !== null;
  panel.addEventListener("toggle", () => document.documentElement.classList.toggle("panel-open", isOpen()));
}
byId("save-json").addEventListener("click", () => download("tags.json", "application/json", asJson(tagged())));
byId("save-csv").addEventListener("click", () => download("tags.csv", "text/csv", `\ufeff${asCsv(tagged())}`));
copyOnClick(byId("copy-json"), () => asJson(tagged()));
copyOnClick(byId("copy-csv"), () => asCsv(tagged()));
copyOnClick(byId("copy-curl"), () => byId("curl").textContent);

byId("destination").textContent = `This page sends them only to ${location.host}.`;
listenForKey();
listenForFiles((files) => files.length && addFiles(files, chosenModel(), finder));
listenForAlike(finder, announce);
listenForCorrections(byId("results"), photoOf, namesOf);
listenForFeedback();
listenForJudging(markLabel);
listenForMarking(byId("cards"), photoOf, announce);
listenForTeaching(namesOf);
listenForPointing(byId("cards"), photoOf, announce, showAlike);
showCommand({ labels: [] }, true);
loadModels();
