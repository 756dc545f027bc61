/** The API key: asked for once the server wants one, kept for this tab only, gone when it closes. */

import { byId } from "./dom.js";

const NAME = "labelwise-key";
let key = remembered();

export function hasKey() {
  return key !== null;
}

export function keyHeaders() {
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}

/** Show the field, and forget the key that was refused. Returns the sentence to show with what failed. */
export function askForKey(refusedHeader) {
  const wasRefused = refusedHeader !== undefined;
  // Answers to requests that were on their way with an older key must not throw the new one away.
  if (wasRefused && refusedHeader !== keyHeaders().Authorization) return "The key was changed meanwhile. Try again.";
  key = null;
  remember();
  byId("key-status").textContent = wasRefused
    ? "This key is not valid here. It may be mistyped, or revoked."
    : "Whoever runs this server can give you one. It stays in this tab only.";
  if (byId("key-form").hidden) {
    byId("key-form").hidden = false;
    byId("key").focus();
  }
  return "This server wants an API key: type it at the top.";
}

/** Call `then` whenever the person has typed a key. */
export function listenForKey(then) {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    key = byId("key").value.replace(/[^\x21-\x7e]/g, ""); // no header can carry what copying may have added
    byId("key").value = "";
    byId("key-form").hidden = true;
    remember();
    then();
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
