/** Which models the server has, and which of them the person wants. */

import { fetchModels } from "./api.js";
import { byId, counted, foldedList, make } from "./dom.js";
import { patiently } from "./patience.js";

const LABELS_SHOWN = 24;

let models = [];
let onChoice = () => {};

/** Call `then` with each model that comes to be shown, as /v1/models describes it. */
export function listenForModels(then) {
  onChoice = then;
  byId("model-retry").addEventListener("click", loadModels);
  byId("picker").addEventListener("change", showModel);
}

export async function loadModels() {
  byId("model-retry").hidden = true;
  try {
    models = await patiently(fetchModels, { onWait: (sentence) => (byId("model-status").textContent = sentence) });
    showModels();
  } catch (error) {
    byId("model-status").textContent = error.message;
    byId("model-retry").hidden = false;
  }
}

/** The picked model's name; null while the server's default is the only choice. */
export function chosenModel() {
  return models.length > 1 ? picked().name : null;
}

/** Models are published while the page is open: what answered may be newer than what was described. */
export function noticeVersion({ model, version }) {
  const known = models.find(({ name }) => name === model);
  if (!known || version <= known.version) return;
  known.version = version; // so that a server that describes an old one is not asked again and again
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
    : "The server is up, but it serves no model yet.";
  const labels = foldedList(model?.labels ?? [], LABELS_SHOWN, "label-list", (label) => make("li", "label", label));
  byId("labels").replaceChildren(...labels);
  if (model) onChoice(model);
}
