/** Shows the curl command that does what the page does. */

import { byId } from "./dom.js";
import { hasKey } from "./key.js";
import { slidThresholds } from "./thresholds.js";

/** `model` is as /v1/models describes it. If it `isOnly` one, the command does not have to name it. */
export function showCommand(model, isOnly) {
  const query = new URLSearchParams(isOnly ? {} : { model: model.name });
  const threshold = thresholds(model);
  if (threshold !== "") query.set("threshold", threshold);
  const readable = query.toString().replaceAll("%3A", ":").replaceAll("%2C", ",");
  const url = `${new URL("v1/tag", document.baseURI)}${readable && `?${readable}`}`;
  const key = hasKey() ? '-H "Authorization: Bearer YOUR-KEY" ' : "";
  byId("curl").textContent = `curl ${key}-H "Content-Type: image/jpeg" --data-binary @photo.jpg "${url}"`;
}

function thresholds({ name, labels }) {
  const slid = slidThresholds(name);
  const values = new Set(slid.values());
  if (slid.size === labels.length && values.size === 1) return [...values][0];
  return [...slid].map(([label, threshold]) => `${label}:${threshold}`).join(",");
}
