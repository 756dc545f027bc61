/** Lists the server's models and lets a person pick one. */

import { fetchModels } from "./api.js";
import { byId, counted, foldedList, make } from "./dom.js";
import { patiently } from "./patience.js";

const LABELS_SHOWN = 24;

let models = [];
let may = []; // what this page may do besides tagging
let onChoice = () => {};

/** Calls `then(model, may)` whenever a model is shown, with what /v1/models says about it and this page's rights. */
export function listenForModels(then) {
  onChoice = then;
  byId("model-retry").addEventListener("click", loadModels);
  byId("picker").addEventListener("change", showModel);
}

export async function loadModels() {
  byId("model-retry").hidden = true;
  try {
    const onWait = (sentence) => (byId("model-status").textContent = sentence);
    ({ models, may } = await patiently(fetchModels, { onWait }));
    showModels();
  } catch (error) {
    byId("model-status").textContent = error.message;
    byId("model-retry").hidden = false;
  }
}

/** Returns the picked model's name, or null if there is no choice. */
export function chosenModel() {
  return models.length > 1 ? picked().name : null;
}

/** Loads the list again if an answer names a version newer than the one listed: it was published in the meantime. */
export function noticeVersion({ model, version }) {
  const known = models.find(({ name }) => name === model);
  if (!known || version <= known.version) return;
  known.version = version; // ask only once, even if the server still lists the old version
  loadModels();
}

function picked() {
  const { value } = byId("picker").querySelector("select");
  return models.find(({ name }) => name === value) ?? models[0];
}

function showModels() {
  const before = picked()?.name;
  const select = byId("picker").querySelector("select");
  select.replaceChildren(...models.map(({ name }) => new Option(name)));
  if (before) select.value = before;
  byId("picker").hidden = models.length < 2;
  showModel();
}

function showModel() {
  const model = picked();
  byId("model-status").textContent = model
    ? `The model ${model.name} knows ${counted(model.labels.length, "label")}:`
    : "The server is running, but it serves no model yet.";
  const labels = foldedList(model?.labels ?? [], LABELS_SHOWN, "label-list", (label) => make("li", "label", label));
  byId("labels").replaceChildren(...labels);
  if (model) onChoice(model, may);
}
