/** Holds all photos on the page. Sends a few at a time, counts and announces them, and removes them. */

import { arrangeCards, neighbourOf } from "./arrangement.js";
import { byId, counted, make, oncePerFrame } from "./dom.js";
import { Photo } from "./photo.js";
import { enqueueRequest } from "./queue.js";

const LINES_ANNOUNCED = 20;
const FEW = 10; // up to this many photos are announced one by one; beyond it, only failures and the end are

const photoOfCard = new WeakMap();
const show = oncePerFrame(() => (showSummary(), onChange()));
const arrange = oncePerFrame(() => arrangeCards(byId("cards"), choose().map(nodeOf), photos.map(nodeOf)));
const nodeOf = ({ card }) => card.node;
let photos = [];
const all = () => photos;
let choose = all; // returns the photos to show, in their order
let onReplaced = () => {};
let onChange = () => {};

export const photoOf = (card) => photoOfCard.get(card);

export const inState = (...states) => photos.filter(({ state }) => states.includes(state));

/** Calls `then` when photos are added, removed or tagged, at most once per frame. */
export function listenForPhotos(then) {
  onChange = then;
  byId("retry-failed").addEventListener("click", () => inState("failed").forEach(submit));
  byId("clear").addEventListener("click", clear);
}

export const photosOnPage = () => photos;

/**
 * Shows only the photos that `chosen()` returns, in their order; null shows all again, the newest first. Calls `ended`
 * when another arrangement takes the place of this one.
 */
export function arrangePhotos(chosen, ended = () => {}) {
  arrange();
  if (choose === (chosen ?? all)) return;
  const tell = onReplaced;
  [choose, onReplaced] = [chosen ?? all, ended];
  tell();
}

/** Tags all photos of `model` again, by a version that is not older than `version`. */
export function tagAgain(model, version) {
  for (const photo of inState("done")) {
    if (photo.answer.model !== model) continue;
    photo.oldestVersion = version;
    photo.show("queued", "Waiting for its turn");
    photo.submit();
  }
  show();
}

/** Queues `files` for `model` (null: the server's default). `search()` returns the search for the labels to show. */
export function addFiles(files, model, search) {
  const added = files.map((file) => new Photo(file));
  for (const photo of added) {
    photoOfCard.set(photo.card.node, photo);
    photo.submit = () => enqueueRequest(async () => settle(await photo.run(model, search())));
    photo.card.find(".retry").addEventListener("click", () => (photo.card.node.focus(), submit(photo)));
    photo.card.find(".remove").addEventListener("click", () => remove(photo));
    photo.submit();
  }
  photos = [...added, ...photos]; // the newest first
  byId("cards").prepend(...added.map(({ card }) => card.node));
  show();
}

function submit(photo) {
  photo.show("queued", "Waiting for its turn");
  photo.submit();
  show();
}

function remove(photo) {
  const neighbour = neighbourOf(photo.card.node);
  photo.remove();
  photos = photos.filter((other) => other !== photo);
  (neighbour?.querySelector(".remove") ?? byId("files")).focus();
  show();
}

function clear() {
  for (const photo of photos) photo.remove();
  photos = [];
  byId("files").focus();
  show();
}

function settle(sentence) {
  show();
  const pending = inState("queued", "sending", "waiting").length;
  if (sentence && (photos.length <= FEW || sentence.includes(" failed: "))) announce(sentence);
  if (photos.length > FEW && pending === 0) announce(`All done: ${summary()}.`);
}

function showSummary() {
  const pending = inState("queued", "sending", "waiting").length;
  byId("summary").textContent = summary();
  byId("results").hidden = photos.length === 0;
  document.body.classList.toggle("has-photos", photos.length > 0);
  byId("progress").hidden = pending === 0;
  byId("progress").max = photos.length;
  byId("progress").value = photos.length - pending;
  byId("retry-failed").hidden = inState("failed").length < 2;
}

function summary() {
  const done = inState("done").length;
  const failed = inState("failed").length;
  const parts = [counted(photos.length, "photo")];
  if (done < photos.length) parts.push(`${done} done`);
  if (failed) parts.push(`${failed} failed`);
  return parts.join(", ");
}

export function announce(sentence) {
  const log = byId("log");
  log.append(make("p", "", sentence));
  if (log.childElementCount > LINES_ANNOUNCED) log.firstElementChild.remove();
}
