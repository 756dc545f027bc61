/** The page: take photos in, send them to the gateway a few at a time, show what it says. */

import { fetchModels } from "./api.js";
import { byId, copyOnClick, foldedList, make } from "./dom.js";
import { hasKey, listenForKey } from "./key.js";
import { Photo } from "./photo.js";
import { createQueue } from "./queue.js";

const REQUESTS_IN_FLIGHT = 3;
const LABELS_SHOWN = 24;
const LINES_ANNOUNCED = 20;

const enqueue = createQueue(REQUESTS_IN_FLIGHT);
let models = [];
let photos = [];

// --- the model ---

async function loadModels() {
  byId("model-retry").hidden = true;
  try {
    models = await fetchModels();
    showModels();
  } catch (error) {
    byId("model-status").textContent = error.message;
    byId("model-retry").hidden = false;
  }
}

function showModels() {
  const select = byId("picker").querySelector("select");
  select.replaceChildren(...models.map(({ name }) => new Option(name)));
  byId("picker").hidden = models.length < 2;
  showModel(models[0]);
}

function showModel(model) {
  const count = model?.labels.length;
  byId("model-status").textContent = model
    ? `The model ${model.name} knows ${count} ${count === 1 ? "label" : "labels"}:`
    : "The server is up, but it serves no model yet.";
  const labels = model?.labels.map((label) => make("li", "label", label)) ?? [];
  byId("labels").replaceChildren(...foldedList(labels, LABELS_SHOWN, "label-list"));
  showCommand();
}

/** The picked model's name; null while the server's default is the only choice. */
function chosenModel() {
  return models.length > 1 ? byId("picker").querySelector("select").value : null;
}

function showCommand() {
  const model = chosenModel();
  const url = `${location.origin}/v1/tag${model ? `?model=${encodeURIComponent(model)}` : ""}`;
  const key = hasKey() ? '-H "Authorization: Bearer YOUR-KEY" ' : "";
  byId("curl").textContent = `curl ${key}-H "Content-Type: image/jpeg" --data-binary @photo.jpg "${url}"`;
}

// --- the photos ---

function addFiles(files) {
  const added = [...files].map((file) => new Photo(file));
  if (added.length === 0) return;
  for (const photo of added) {
    photo.find(".retry").addEventListener("click", () => (photo.card.focus(), retry(photo)));
    photo.find(".remove").addEventListener("click", () => remove(photo));
    submit(photo);
  }
  photos = [...added, ...photos]; // the newest on top, where the person looks
  byId("cards").prepend(...added.map((photo) => photo.card));
  showSummary();
}

function submit(photo) {
  const model = chosenModel();
  enqueue(async () => {
    const sentence = await photo.run(model);
    if (sentence) announce(sentence);
    showSummary();
  });
}

function retry(photo) {
  photo.show("queued", "Waiting for its turn");
  submit(photo);
  showSummary();
}

function remove(photo) {
  const neighbour = photo.card.nextElementSibling ?? photo.card.previousElementSibling;
  photo.remove();
  photos = photos.filter((other) => other !== photo);
  (neighbour?.querySelector(".remove") ?? byId("files")).focus();
  showSummary();
}

function clear() {
  for (const photo of photos) photo.remove();
  photos = [];
  byId("files").focus();
  showSummary();
}

function inState(state) {
  return photos.filter((photo) => photo.state === state);
}

function showSummary() {
  const done = inState("done").length;
  const failed = inState("failed").length;
  const parts = [photos.length === 1 ? "1 photo" : `${photos.length} photos`];
  if (done < photos.length) parts.push(`${done} done`);
  if (failed) parts.push(`${failed} failed`);
  byId("summary").textContent = parts.join(", ");
  byId("results").hidden = photos.length === 0;
  byId("retry-failed").hidden = failed < 2;
  byId("copy-json").disabled = done === 0;
}

function announce(sentence) {
  const log = byId("log");
  log.append(make("p", "", sentence));
  if (log.childElementCount > LINES_ANNOUNCED) log.firstElementChild.remove();
}

function resultsAsJson() {
  const results = inState("done").map(({ file, answer }) => ({ file: file.name, ...answer }));
  return JSON.stringify(results, null, 2);
}

// --- what the person does ---

function listenForFiles() {
  const input = byId("files");
  input.addEventListener("change", () => {
    addFiles(input.files);
    input.value = ""; // so that picking the same file again is a change too
  });
  document.addEventListener("paste", (event) => addFiles(event.clipboardData.files));
  // The whole page takes drops: a photo that lands beside the zone must not replace the page.
  const highlight = (on) => byId("dropzone").classList.toggle("over", on);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    highlight(event.dataTransfer.types.includes("Files"));
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || highlight(false));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    highlight(false);
    addFiles(event.dataTransfer.files);
  });
}

byId("destination").textContent = `This page sends them to ${location.host}, and nowhere else.`;
byId("model-retry").addEventListener("click", loadModels);
byId("picker").addEventListener("change", (event) => showModel(models[event.target.selectedIndex]));
byId("retry-failed").addEventListener("click", () => inState("failed").forEach(retry));
byId("clear").addEventListener("click", clear);
copyOnClick(byId("copy-json"), resultsAsJson);
copyOnClick(byId("copy-curl"), () => byId("curl").textContent);
listenForKey(() => (loadModels(), inState("failed").forEach(retry)));
listenForFiles();
showCommand();
loadModels();
