/** The page: photos in, tags out. This module connects its parts. */

import { copyOnClick, download } from "./clipboard.js";
import { showCommand } from "./command.js";
import { byId, oncePerFrame } from "./dom.js";
import { addFiles, announce, inState, listenForPhotos, photoOf } from "./gallery.js";
import { listenForFiles } from "./intake.js";
import { listenForKey } from "./key.js";
import { chosenModel, listenForModels, loadModels, noticeVersion } from "./models.js";
import { listenForPointing } from "./pointing.js";
import { listenForSliding, showCounts, showOnlySliders, showSliders } from "./sliders.js";
import { asCsv, asJson } from "./tables.js";

const FEW_LABELS = 12; // a person finds one of these without a search field

let model = null; // the model shown, as /v1/models describes it

const tagged = () => inState("done");

/** Returns a function that says whether a label matches the search field. */
function finder() {
  const words = byId("find").value.toLocaleLowerCase().trim();
  return (label) => label.toLocaleLowerCase().includes(words);
}

function countTags() {
  const counts = new Map();
  for (const { judged } of tagged()) {
    if (judged.model !== model?.name) continue;
    for (const { label } of judged.tags) counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  showCounts(counts);
}

listenForModels((chosen) => {
  model = chosen;
  showSliders(model);
  byId("finder").hidden = model.labels.length <= FEW_LABELS;
  byId("find").value = "";
  countTags();
  showCommand(model, chosenModel() === null);
});

listenForPhotos(() => {
  for (const id of ["copy-json", "copy-csv", "save-json", "save-csv"]) byId(id).disabled = tagged().length === 0;
  if (tagged().length) noticeVersion(tagged()[0].answer);
  countTags();
});

listenForSliding(() => {
  for (const photo of tagged()) photo.showThresholds();
  countTags();
  showCommand(model, chosenModel() === null);
});

const find = oncePerFrame(() => {
  showOnlySliders(finder());
  for (const photo of tagged()) photo.showLabels(finder());
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
listenForPointing(byId("cards"), photoOf, announce);
showCommand({ labels: [] }, true);
loadModels();
