/** "More like this": shows the photos that have a label as a tag, those first whose embedding of it is most similar. */

import { byId, counted, make, oncePerFrame } from "./dom.js";
import { arrangePhotos, inState } from "./gallery.js";
import { enqueueRequest } from "./queue.js";

const TAGS_OFFERED = 12;

let wanted = null; // { photo, label, aborter }
let sorted = []; // the photos, most alike first
const waiting = new Set(); // photos whose embedding was asked for
const failed = new Map(); // photo -> why it has no embedding
const pressed = new Set(); // tags that the shown photos must have, too
let chooseTags = (tags) => tags;
let announce = () => {};

/** `search()` returns the search for labels, and `say` announces a sentence. */
export function listenForAlike(search, say) {
  chooseTags = (tags) => search()(tags);
  announce = say;
  byId("alike-leave").addEventListener("click", leave);
  byId("alike-retry").addEventListener("click", () => (byId("alike").focus(), failed.clear(), refreshAlike()));
  byId("alike").addEventListener("keydown", ({ key }) => key === "Escape" && leave());
}

/** Compares all photos that have the tag `label` with `photo`. */
export function showAlike(photo, label) {
  forget();
  wanted = { photo, label, aborter: new AbortController() };
  sorted = [photo];
  const [about, whose] = byId("alike-title").querySelectorAll("b");
  about.textContent = label;
  whose.textContent = photo.file.name;
  byId("alike").hidden = false;
  refreshAlike();
  byId("alike").focus();
}

/** To be called when photos, their tags or the search for labels have changed. */
export function refreshAlike() {
  if (wanted === null) return;
  const { photo, label } = wanted;
  if (photo.isRemoved) return arrangePhotos(null);
  const done = inState("done");
  const compared = done.filter((other) => other === photo || isComparable(other));
  for (const other of compared) if (!other.embeddingOf(label)) ask(other);
  if (waiting.size === 0 && photo.state === "done") sort(compared);
  showStatus(compared, done);
  offerTags(compared);
  arrangePhotos(shown, forget);
}

const refreshSoon = oncePerFrame(refreshAlike);

/** The vectors of two versions cannot be compared, and that of a label that is not in the photo says little. */
function isComparable(other) {
  const { answer } = wanted.photo;
  const isOfSame = other.answer.model === answer.model && other.answer.version === answer.version;
  return isOfSame && other.hasTag(wanted.label);
}

/** Asks for one embedding. Its photo waits for its turn, and is left out if the person leaves in the meantime. */
function ask(photo) {
  if (waiting.has(photo) || failed.has(photo)) return;
  const { label, aborter: { signal } } = wanted;
  waiting.add(photo);
  enqueueRequest(async () => {
    if (signal.aborted) return;
    const onWait = (sentence) => (byId("alike-status").textContent = sentence);
    try {
      await photo.embed(label, signal, onWait);
    } catch (error) {
      if (!signal.aborted && !photo.isRemoved) failed.set(photo, error.message);
    }
    if (signal.aborted) return;
    waiting.delete(photo);
    refreshSoon();
  }, true);
}

function sort(compared) {
  const { photo, label } = wanted;
  const own = photo.embeddingOf(label);
  const likeness = new Map();
  for (const other of compared) {
    const vector = other.embeddingOf(label);
    likeness.set(other, own && vector ? dot(own, vector) : -Infinity);
    other.card.showLikeness(other === photo ? "" : likenessText(label, likeness.get(other)));
  }
  const isNews = sorted.length < 2 && compared.length > 1;
  likeness.set(photo, Infinity); // also before its copies
  sorted = compared.sort((one, other) => likeness.get(other) - likeness.get(one));
  if (isNews) announce(`Compared ${counted(sorted.length - 1, "photo")}, the most alike first.`);
}

function likenessText(label, likeness) {
  return likeness === -Infinity ? "Not compared" : `Similarity of ${label}: ${likeness.toFixed(2)}`;
}

/** The cosine of two vectors of length 1. */
function dot(one, other) {
  return one.reduce((sum, value, at) => sum + value * other[at], 0);
}

/** Returns the photos to show: the one that the others are compared with, and those that have all pressed tags. */
function shown() {
  const isShown = (other) => other === wanted.photo || [...pressed].every((tag) => other.hasTag(tag));
  return sorted.filter((other) => !other.isRemoved && isShown(other));
}

function showStatus(compared, done) {
  const { photo, label } = wanted;
  const left = compared.filter((other) => failed.has(other));
  byId("alike-retry").hidden = left.length === 0 || waiting.size > 0;
  const others = counted(compared.length - 1, "other photo");
  const lines = waiting.size
    ? [`Comparing: ${compared.length - waiting.size} of ${counted(compared.length, "photo")} done…`]
    : [`${others} with this tag, the most alike first. Similarity: 1 is the same, 0 is unrelated.`];
  if (compared.length < 2 && !waiting.size) lines[0] = "No other photo on this page has this tag.";
  if (photo.state === "done" && !photo.hasTag(label)) {
    lines.push(`This photo itself lacks the tag ${label}, so the order says little.`);
  }
  if (left.length) lines.push(`${counted(left.length, "photo")} could not be compared: ${failed.get(left[0])}`);
  byId("alike-status").textContent = lines.join(" ");
}

/** Offers the most frequent other tags of these photos, or those that are searched for. */
function offerTags(compared) {
  const counts = new Map();
  for (const { judged } of compared) {
    for (const { label } of judged.tags) if (label !== wanted.label) counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  const frequent = chooseTags([...counts.keys()].sort((one, other) => counts.get(other) - counts.get(one)));
  const offered = [...new Set([...pressed, ...frequent.slice(0, TAGS_OFFERED)])];
  const group = byId("alike-tags");
  group.hidden = offered.length === 0 || compared.length < 2;
  const buttonOf = new Map([...group.querySelectorAll("button")].map((button) => [button.dataset.tag, button]));
  const buttons = offered.map((tag) => showTag(buttonOf.get(tag) ?? makeTag(tag), counts.get(tag) ?? 0));
  group.querySelector("span").replaceChildren(...buttons);
}

function makeTag(tag) {
  const button = make("button", "filter");
  button.type = "button";
  button.dataset.tag = tag;
  button.addEventListener("click", () => {
    if (!pressed.delete(tag)) pressed.add(tag);
    refreshAlike();
  });
  return button;
}

function showTag(button, count) {
  const { tag } = button.dataset;
  button.replaceChildren(`${tag} `, make("small", "", count));
  button.ariaPressed = String(pressed.has(tag));
  return button;
}

/** Shows all photos again, and the one that they were compared with. */
function leave() {
  const { card } = wanted.photo;
  arrangePhotos(null);
  card.node.focus();
}

function forget() {
  wanted?.aborter.abort();
  for (const { card } of sorted) card.showLikeness("");
  wanted = null;
  sorted = [];
  waiting.clear();
  failed.clear();
  pressed.clear();
  byId("alike").hidden = true;
}
