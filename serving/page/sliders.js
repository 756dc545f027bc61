/** The panel of threshold sliders: one per label of the model, and one for all labels. */

import { byId, counted, make, oncePerFrame } from "./dom.js";
import { resetThresholds, slideThreshold, slidThresholds } from "./thresholds.js";

const rows = new Map(); // label -> its row
let model = null;
let onSlide = () => {};

/** Calls `then` whenever a threshold has changed, at most once per frame. */
export function listenForSliding(then) {
  onSlide = oncePerFrame(then);
  byId("all-labels").addEventListener("input", (event) => {
    for (const label of rows.keys()) slide(label, event.target.valueAsNumber);
  });
  byId("reset-thresholds").addEventListener("click", () => {
    resetThresholds(model.name);
    showThresholds();
    onSlide();
  });
}

/** Shows the rows of another model, as /v1/models describes it. */
export function showSliders(described) {
  model = described;
  rows.clear();
  for (const label of model.labels) rows.set(label, makeRow(label));
  byId("sliders").replaceChildren(...rows.values());
  byId("all-labels").closest("label").hidden = rows.size < 2;
  byId("thresholds").hidden = false;
  showThresholds();
}

/** Shows how many photos have each label as a tag; `counts` maps a label to its count. */
export function showCounts(counts) {
  for (const [label, row] of rows) {
    const count = counts.get(label) ?? 0;
    row.querySelector(".count").textContent = counted(count, "photo");
    row.classList.toggle("none", count === 0);
  }
}

export function showOnlySliders(matches) {
  for (const [label, row] of rows) row.hidden = !matches(label);
}

function makeRow(label) {
  const slider = make("input");
  Object.assign(slider, { type: "range", min: 0, max: 1, step: 0.01 });
  slider.addEventListener("input", () => slide(label, slider.valueAsNumber));
  const name = make("label", "slider", make("span", "slider-name", label), slider);
  const row = make("li", "slider-row", name, make("span", "slider-value"), make("span", "count"));
  row.style.setProperty("--own", model.thresholds[label]);
  return row;
}

function slide(label, threshold) {
  slideThreshold(model.name, label, threshold);
  showThreshold(label);
  onSlide();
}

function showThresholds() {
  for (const label of rows.keys()) showThreshold(label);
}

function showThreshold(label) {
  const slid = slidThresholds(model.name);
  const threshold = slid.get(label) ?? model.thresholds[label];
  const row = rows.get(label);
  row.querySelector("input").value = threshold;
  row.querySelector("input").ariaValueText = threshold.toFixed(2);
  row.querySelector(".slider-value").textContent = threshold.toFixed(2);
  row.classList.toggle("slid", slid.has(label));
  byId("reset-thresholds").disabled = slid.size === 0;
}
