/** The API key. The page asks for it when the server needs one, and keeps it until the tab is closed. */

import { byId } from "./dom.js";

const NAME = "labelwise-key";
let key = remembered();
const waiting = [];

export function hasKey() {
  return key !== null;
}

export function keyHeaders() {
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}

/** Shows the field and forgets the refused key. Returns the sentence to show with everything that waits. */
export function askForKey(refusedHeader) {
  const wasRefused = refusedHeader !== undefined;
  // A late answer to a request with the old key must not delete the new one.
  if (wasRefused && refusedHeader !== keyHeaders().Authorization) return "The key has changed in the meantime.";
  key = null;
  remember();
  byId("key-status").textContent = wasRefused
    ? "This key is not valid. It may be mistyped or revoked."
    : "Ask the operator of this server for one. The key is kept only in this tab.";
  if (byId("key-form").hidden) {
    byId("key-form").hidden = false;
    byId("key").focus();
  }
  return "Waiting for an API key. Enter it at the top of the page.";
}

/** Resolves when there is a key to try. */
export function keyGiven() {
  return hasKey() ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve));
}

export function listenForKey() {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key = byId("key").value.replace(/[^\x21-\x7e]/g, ""); // copying may add characters that a header cannot hold
    byId("key").value = "";
    byId("key-form").hidden = true;
    remember();
    for (const resolve of waiting.splice(0)) resolve();
  });
}

function remembered() {
  try {
    return sessionStorage.getItem(NAME);
  } catch {
    return null; // this browser stores nothing, so a reload forgets the key
  }
}

function remember() {
  try {
    if (key === null) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, key);
  } catch {
    // this browser stores nothing
  }
}
