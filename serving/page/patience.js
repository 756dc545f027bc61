/** A server that is busy, away, or wants a key is no fault of the photo: that passes, and the photo waits for it. */

import { ApiError } from "./api.js";
import { serverIsBack } from "./connection.js";
import { sleep } from "./dom.js";
import { keyGiven } from "./key.js";

const LONGEST_WAIT = 30; // seconds; a server that asks for more gets its next try from the person, not from the page
const MOST_TRIES = { busy: 8, away: 3, key: Infinity };

/**
 * What `ask()` resolves to. Meanwhile `onWait(sentence)` is told what is waited for. Throws what `ask` threw if waiting
 * does not help, or an abort.
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
    return sleep(seconds * (1 + Math.random() / 4)); // not in step with all the others that it told the same
  }
  onWait(error.message);
  return error.reason === "key" ? keyGiven() : serverIsBack();
}

/** A server that is up, and breaks off each time, does so because of what it is sent. */
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
