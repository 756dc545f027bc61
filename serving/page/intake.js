/** Photos on their way in: picked, pasted, or dropped anywhere on the page, folders with all that is in them too. */

import { byId } from "./dom.js";

const IMAGE_NAME = /\.(jpe?g|png|webp|avif|gif|bmp|tiff?|hei[cf])$/i; // browsers know no type for some of these

/** Call `take` with the files of each pick, paste or drop. */
export function listenForFiles(take) {
  const input = byId("files");
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = ""; // so that picking the same file again is a change too
  });
  document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
  // The whole page takes drops: a photo that lands beside the zone must not replace the page.
  const highlight = (on) => byId("dropzone").classList.toggle("over", on);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    highlight(event.dataTransfer.types.includes("Files"));
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || highlight(false));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    highlight(false);
    take(await filesOf(event.dataTransfer));
  });
}

/** What was dropped is gone once the event is over, so the entries are taken before anything is awaited. */
async function filesOf(transfer) {
  const files = [...transfer.files];
  const entries = [...transfer.items].filter(({ kind }) => kind === "file").map((item) => item.webkitGetAsEntry?.());
  const isFolder = (index) => entries[index]?.isDirectory;
  const taken = await Promise.all(files.map((file, index) => (isFolder(index) ? photosIn(entries[index]) : [file])));
  return taken.flat();
}

/** The photos in a folder and the folders below it, by name; other files there were hardly meant. */
async function photosIn(folder) {
  const entries = await entriesOf(folder).catch(() => []);
  entries.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  const files = [];
  for (const entry of entries) {
    if (entry.isDirectory) files.push(...(await photosIn(entry)));
    else if (IMAGE_NAME.test(entry.name) && !entry.name.startsWith(".")) {
      files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    }
  }
  return files;
}

/** A reader gives a hundred at a time, and nothing at the end. */
async function entriesOf(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return entries;
    entries.push(...some);
  }
}
