/** Repeats a request while the server is busy, cannot be reached or needs a key. */

import { ApiError } from "./api.js";
import { byId, sleep } from "./dom.js";
import { keyGiven } from "./key.js";

const LONGEST_WAIT = 30; // seconds; if the server asks for more, the page leaves the next try to the person
const LONGEST_PAUSE = 15; // seconds between two probes of a server that cannot be reached
const MOST_TRIES = { busy: 8, away: 3, key: Infinity };

let coming = null; // the promise of a server that cannot be reached

/**
 * Resolves to what `ask()` resolves to. Calls `onWait(sentence)` before each wait. Throws the error of `ask` if waiting
 * does not help, and the abort reason if `signal` is aborted.
 */
export async function patiently(ask, { signal, onWait }) {
  const tries = { busy: 0, away: 0, key: 0 };
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      if (signal?.aborted || !(error.reason in tries) || error.retryAfter > LONGEST_WAIT) throw error;
      tries[error.reason] += 1;
      if (tries[error.reason] > MOST_TRIES[error.reason]) throw hopeless(error);
      await unlessAborted(passing(error, tries.busy, onWait), signal);
    }
  }
}

function passing(error, tries, onWait) {
  if (error.reason === "busy") {
    const seconds = Math.min(Math.max(error.retryAfter, 2 ** (tries - 1)), LONGEST_WAIT);
    onWait(`${error.message} Trying again in ${seconds} s…`);
    return sleep(seconds * (1 + Math.random() / 4)); // so that waiting clients do not all come back at once
  }
  onWait(error.message);
  return error.reason === "key" ? keyGiven() : serverIsBack();
}

/** If a running server closes the connection every time, this request is at fault. */
function hopeless(error) {
  return error.reason === "away" ? new ApiError("The connection broke each time this was sent.") : error;
}

function unlessAborted(promise, signal) {
  if (!signal) return promise;
  const aborted = new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  return Promise.race([promise, aborted]);
}

/** Resolves when the server answers again. One banner and one probe every few seconds serve all photos. */
function serverIsBack() {
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
