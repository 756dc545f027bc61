/** Out of the page: to the clipboard, or into a file. */

import { make } from "./dom.js";

/** Make `button` copy what `text()` returns, and say on the button itself how that went. */
export function copyOnClick(button, text) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    button.textContent = await copyText(text()).then(() => "Copied", () => "Could not copy");
    setTimeout(() => (button.textContent = label), 1600);
  });
}

async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Browsers offer navigator.clipboard on https and localhost only; a gateway in the local network is neither.
  const area = make("textarea", "unseen");
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("The browser refused to copy.");
}

export function download(name, type, text) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers begin to read only after the click
}
