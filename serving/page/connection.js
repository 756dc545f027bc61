/** Waits for a server that cannot be reached: one banner, and one probe every few seconds on behalf of all photos. */

import { byId, sleep } from "./dom.js";

const LONGEST_PAUSE = 15; // seconds
let coming = null;

/** Resolves when the server answers again. */
export function serverIsBack() {
  coming ??= lookUntilBack().finally(() => (coming = null));
  return coming;
}

async function lookUntilBack() {
  byId("away").hidden = false;
  for (let pause = 1; !(await isUp()); pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    byId("away-next").textContent = `Next check in ${pause} s.`;
    await Promise.race([sleep(pause), lookNow()]);
    byId("away-next").textContent = "Checking…";
  }
  byId("away").hidden = true;
}

function isUp() {
  return fetch("v2/health/live", { cache: "no-store" }).then((response) => response.ok, () => false);
}

function lookNow() {
  return new Promise((resolve) => (byId("look-now").onclick = resolve));
}
