/** The page: photos in, tags out. This module connects its parts. */

import { listenForAlike, refreshAlike, showAlike } from "./alike.js";
import { BARS_SHOWN } from "./card.js";
import { copyOnClick, download } from "./clipboard.js";
import { showCommand } from "./command.js";
import { byId, oncePerFrame } from "./dom.js";
import { addFiles, announce, inState, listenForPhotos, photoOf } from "./gallery.js";
import { listenForFiles } from "./intake.js";
import { listenForKey } from "./key.js";
import { chosenModel, listenForModels, loadModels, noticeVersion } from "./models.js";
import { listenForPointing } from "./pointing.js";
import { listenForSliding, showCounts, showRows, showSliders } from "./sliders.js";
import { asCsv, asJson } from "./tables.js";

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

listenForModels((chosen) => {
  model = chosen;
  showSliders(model);
  byId("results").classList.toggle("compares", model.outputs.includes("embeddings"));
  byId("finder").hidden = model.labels.length <= FEW_LABELS;
  byId("find").value = "";
  chooseSliders();
  showCommand(model, chosenModel() === null);
});

listenForPhotos(() => {
  for (const id of ["copy-json", "copy-csv", "save-json", "save-csv"]) byId(id).disabled = tagged().length === 0;
  if (tagged().length) noticeVersion(tagged()[0].answer);
  chooseSliders();
  refreshAlike();
});

listenForSliding(() => {
  for (const photo of tagged()) photo.showThresholds();
  countTags();
  refreshAlike();
  showCommand(model, chosenModel() === null);
});

const find = oncePerFrame(() => {
  chooseSliders();
  for (const photo of tagged()) photo.showLabels(finder());
  refreshAlike();
});

byId("find").addEventListener("input", find);
byId("only-tags").addEventListener("change", () => tagged().forEach((photo) => photo.showThresholds()));
byId("save-json").addEventListener("click", () => download("tags.json", "application/json", asJson(tagged())));
byId("save-csv").addEventListener("click", () => download("tags.csv", "text/csv", `\ufeff${asCsv(tagged())}`));
copyOnClick(byId("copy-json"), () => asJson(tagged()));
copyOnClick(byId("copy-csv"), () => asCsv(tagged()));
copyOnClick(byId("copy-curl"), () => byId("curl").textContent);

byId("destination").textContent = `This page sends them only to ${location.host}.`;
listenForKey();
listenForFiles((files) => files.length && addFiles(files, chosenModel(), finder));
listenForAlike(finder, announce);
listenForPointing(byId("cards"), photoOf, announce, showAlike);
showCommand({ labels: [] }, true);
loadModels();
