/** The API key: asked for once the server wants one, kept for this tab only, gone when it closes. */

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

/** Show the field, and forget the key that was refused. Returns the sentence to show with what has to wait. */
export function askForKey(refusedHeader) {
  const wasRefused = refusedHeader !== undefined;
  // Answers to requests that were on their way with an older key must not throw the new one away.
  if (wasRefused && refusedHeader !== keyHeaders().Authorization) return "The key was changed meanwhile.";
  key = null;
  remember();
  byId("key-status").textContent = wasRefused
    ? "This key is not valid here. It may be mistyped, or revoked."
    : "Whoever runs this server can give you one. It stays in this tab only.";
  if (byId("key-form").hidden) {
    byId("key-form").hidden = false;
    byId("key").focus();
  }
  return "Waiting for an API key: type it at the top.";
}

/** Resolves when there is a key to try. */
export function keyGiven() {
  return hasKey() ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve));
}

export function listenForKey() {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key = byId("key").value.replace(/[^\x21-\x7e]/g, ""); // no header can carry what copying may have added
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
    return null; // a browser that keeps nothing: the key then lives as long as the page
  }
}

function remember() {
  try {
    if (key === null) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, key);
  } catch {
    // as above
  }
}
