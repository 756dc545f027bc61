/** Takes photos that a person picks, pastes, or drops anywhere on the page. Folders may be dropped, too. */

import { byId } from "./dom.js";

const IMAGE_NAME = /\.(jpe?g|png|webp|avif|gif|bmp|tiff?|hei[cf])$/i; // browsers have no type for some of these

/** Calls `take` with the files of each pick, paste or drop. */
export function listenForFiles(take) {
  const input = byId("files");
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = ""; // otherwise picking the same file again is no change
  });
  document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
  // The whole page accepts drops: otherwise a photo dropped beside the zone would replace the page.
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

/** The browser clears the dropped items when the event ends, so all entries are read before the first await. */
async function filesOf(transfer) {
  const files = [...transfer.files];
  const entries = [...transfer.items].filter(({ kind }) => kind === "file").map((item) => item.webkitGetAsEntry?.());
  const isFolder = (index) => entries[index]?.isDirectory;
  const taken = await Promise.all(files.map((file, index) => (isFolder(index) ? photosIn(entries[index]) : [file])));
  return taken.flat();
}

/** Returns the photos in a folder and its subfolders, sorted by name. Other files are left out. */
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

/** A reader returns up to a hundred entries per call, and an empty list at the end. */
async function entriesOf(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return entries;
    entries.push(...some);
  }
}
