/** The panel of threshold sliders: one for all labels of the model, and one for each label that is shown. */

import { byId, counted, make, oncePerFrame } from "./dom.js";
import { resetThresholds, slideThreshold, slidThresholds } from "./thresholds.js";

const MOST_ROWS = 40; // a person finds a label among these by eye, and any other with the search field

const rows = new Map(); // label -> its row, once it was shown
let placeOf = new Map(); // label -> its place among the model's labels
let model = null;
let onSlide = () => {};

/** Calls `then` whenever a threshold has changed, at most once per frame. */
export function listenForSliding(then) {
  onSlide = oncePerFrame(then);
  byId("all-labels").addEventListener("input", (event) => {
    for (const label of model.labels) slideThreshold(model.name, label, event.target.valueAsNumber);
    showThresholds();
    onSlide();
  });
  byId("reset-thresholds").addEventListener("click", () => {
    resetThresholds(model.name);
    showThresholds();
    onSlide();
  });
}

/** Shows another model, as /v1/models describes it, without rows. */
export function showSliders(described) {
  model = described;
  placeOf = new Map(model.labels.map((label, place) => [label, place]));
  rows.clear();
  byId("sliders").replaceChildren();
  byId("all-labels").closest("label").hidden = model.labels.length < 2;
  byId("thresholds").hidden = false;
  byId("reset-thresholds").disabled = slidThresholds(model.name).size === 0;
}

/**
 * Shows the rows of the first of `labels`, most important first, in the model's order. Rows are hidden, not removed or
 * moved, so that the slider that a person holds stays. That row is always shown, too. Labels that the model lacks have
 * no threshold.
 */
export function showRows(labels) {
  const shown = new Set(labels.filter((label) => placeOf.has(label)).slice(0, MOST_ROWS));
  for (const label of shown) if (!rows.has(label)) addRow(label);
  for (const [label, row] of rows) row.hidden = !shown.has(label) && !row.contains(document.activeElement);
  const left = model.labels.length - shown.size;
  byId("sliders-hint").hidden = left === 0;
  byId("sliders-hint").textContent = `${counted(left, "more label")}: find a label to see its threshold.`;
}

/** Shows how many photos have each label as a tag; `counts` maps a label to its count. */
export function showCounts(counts) {
  for (const [label, row] of rows) {
    const count = counts.get(label) ?? 0;
    row.querySelector(".count").textContent = counted(count, "photo");
    row.classList.toggle("none", count === 0);
  }
}

function addRow(label) {
  const row = makeRow(label);
  const isAfter = (other) => placeOf.get(other.dataset.label) > placeOf.get(label);
  byId("sliders").insertBefore(row, [...byId("sliders").children].find(isAfter) ?? null);
  rows.set(label, row);
  showThreshold(label);
}

function makeRow(label) {
  const slider = make("input");
  Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.01 });
  slider.addEventListener("input", () => slide(label, slider.valueAsNumber));
  const name = make("label", "slider", make("span", "slider-name", label), slider);
  const row = make("li", "slider-row", name, make("span", "slider-value"), make("span", "count"));
  row.dataset.label = label;
  row.style.setProperty("--own", model.thresholds[label]);
  return row;
}

function slide(label, threshold) {
  slideThreshold(model.name, label, threshold);
  showThreshold(label);
  byId("reset-thresholds").disabled = false;
  onSlide();
}

function showThresholds() {
  for (const label of rows.keys()) showThreshold(label);
  byId("reset-thresholds").disabled = slidThresholds(model.name).size === 0;
}

function showThreshold(label) {
  const slid = slidThresholds(model.name);
  const threshold = slid.get(label) ?? model.thresholds[label];
  const row = rows.get(label);
  row.querySelector("input").value = threshold;
  row.querySelector("input").ariaValueText = threshold.toFixed(2);
  row.querySelector(".slider-value").textContent = threshold.toFixed(2);
  row.classList.toggle("slid", slid.has(label));
}
