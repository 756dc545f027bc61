/** Copies results to the clipboard, or saves them as a file. */

import { make } from "./dom.js";

/** Makes `button` copy what `text()` returns, and shows on the button whether that worked. */
export function copyOnClick(button, text) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    button.textContent = await copyText(text()).then(() => "Copied", () => "Could not copy");
    setTimeout(() => (button.textContent = label), 1600);
  });
}

async function copyText(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Browsers offer navigator.clipboard only on https and localhost; a gateway on the local network has neither.
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
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read the file only after the click
}
