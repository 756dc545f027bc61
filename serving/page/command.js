/** The command that does in a terminal what the page does. */

import { byId } from "./dom.js";
import { hasKey } from "./key.js";
import { slidThresholds } from "./thresholds.js";

/** @param {string | null} name the model, null for the server's default; @param {string} [model] whose thresholds hold */
export function showCommand(name, model) {
  const query = new URLSearchParams(name ? { model: name } : {});
  const slid = [...slidThresholds(model)].map(([label, threshold]) => `${label}:${threshold}`);
  if (slid.length) query.set("threshold", slid.join(","));
  const key = hasKey() ? '-H "Authorization: Bearer YOUR-KEY" ' : "";
  const url = `${location.origin}/v1/tag${query.size ? `?${query}` : ""}`;
  byId("curl").textContent = `curl ${key}-H "Content-Type: image/jpeg" --data-binary @photo.jpg "${url}"`;
}
