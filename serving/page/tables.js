/** Writes the results as text for other programs. */

const NEWLINE = "\r\n"; // RFC 4180

/** @param {Array<{file: File, judged: object}>} photos that were tagged */
export function asJson(photos) {
  return JSON.stringify(photos.map(({ file, judged }) => ({ file: file.name, ...judged })), null, 2);
}

/** One row per photo, with the columns of `labelwise tag --out tags.csv`, so one program can read both. */
export function asCsv(photos) {
  const labels = [...new Set(photos.flatMap(({ judged }) => judged.scores.map(({ label }) => label)))].sort();
  const head = ["path", "tags", ...labels.map((label) => `scores.${label}`), "model", "version"];
  const rows = photos.map(({ file, judged: { tags, model, version, scores } }) => {
    const scoreOf = new Map(scores.map(({ label, score }) => [label, score]));
    const names = tags.map(({ label }) => quoted(label)).join(";");
    return [file.name, names, ...labels.map((label) => scoreOf.get(label) ?? ""), model, version];
  });
  return [head, ...rows].map((row) => row.map(cell).join(",") + NEWLINE).join("");
}

/** Puts a name that contains a separator in quotes, as `join_names` in labelwise/label_names.py does. */
function quoted(name) {
  return /[,;|\r\n"]|^[\[{(=+\-@]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name;
}

/** Spreadsheets run text that begins like a formula, and file names are untrusted. An apostrophe prevents that. */
function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
