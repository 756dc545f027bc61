/** Small DOM helpers. Labels and file names are untrusted: they only ever become text nodes. */

export const byId = (id) => document.getElementById(id);

export function make(tag, className = "", ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

/** A list of `items`; what exceeds `limit` (a model may know hundreds of labels) folds away behind a click. */
export function foldedList(items, limit, className) {
  const list = (part) => make("ul", className, ...part);
  if (items.length <= limit) return [list(items)];
  const rest = items.slice(limit);
  const summary = make("summary", "", `${rest.length} more`);
  return [list(items.slice(0, limit)), make("details", "", summary, list(rest))];
}

export async function copyText(text) {
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

/** Make `button` copy what `text()` returns, and say on the button itself how that went. */
export function copyOnClick(button, text) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    button.textContent = await copyText(text()).then(() => "Copied", () => "Could not copy");
    setTimeout(() => (button.textContent = label), 1600);
  });
}
