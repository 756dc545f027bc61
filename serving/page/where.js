/** Says in words, and draws over the photo, where the model looked for a label. */

const CLEARLY = 3; // a cell is drawn at full strength only from this many times its fair share
const STANDS_OUT = 1.4; // a third of the photo is named if it has at least this many times its fair share
const ROWS = ["mostly along the top", "mostly across the middle", "mostly along the bottom"];
const COLUMNS = ["mostly on the left", "mostly down the middle", "mostly on the right"];
const VERTICAL = ["top", null, "bottom"];
const HORIZONTAL = ["left", "centre", "right"];
const LONGER_SIDE = 240; // pixels of the drawing, which is smooth and stretched over the photo

/**
 * @param {{image: {width, height}, grid: {box}}} explained the answer of /v1/explain
 * @param {number[][]} attention one label's map, rows from top to bottom, its sum 1
 * @returns {string} such as "mostly at the bottom left"
 */
export function sayWhere({ image, grid }, attention) {
  const [left, top, right, bottom] = grid.box;
  const looked = clearness(attention);
  const rows = looked.map((row) => row.reduce((sum, value) => sum + value, 0));
  const columns = looked[0].map((_, x) => looked.reduce((sum, row) => sum + row[x], 0));
  const row = standsOut(rows, top / image.height, bottom / image.height);
  const column = standsOut(columns, left / image.width, right / image.width);
  if (row === null && column === null) return "all over the photo";
  if (column === null) return ROWS[row];
  if (row === 1 && column === 1) return "mostly in the middle";
  return row === null || row === 1 ? COLUMNS[column] : `mostly at the ${VERTICAL[row]} ${HORIZONTAL[column]}`;
}

/**
 * Returns how strongly the model looked at each cell, from 0 (at most its fair share) to 1. The scale is logarithmic,
 * as in labelwise/attention.py: otherwise a single cell with much attention would hide all others.
 */
function clearness(attention) {
  const cells = attention.length * attention[0].length;
  const most = Math.max(CLEARLY, ...attention.flat().map((value) => value * cells));
  return attention.map((row) => row.map((value) => Math.log(Math.max(1, value * cells)) / Math.log(most)));
}

/** Returns the third of the photo with clearly more than its share of `sums`, or null. Cells span `start` to `end`. */
function standsOut(sums, start, end) {
  const shares = [0, 0, 0];
  const fair = [0, 0, 0];
  const total = sums.reduce((all, sum) => all + sum, 0) || 1;
  sums.forEach((sum, i) => {
    const third = Math.min(2, Math.max(0, Math.floor(3 * (start + ((i + 0.5) / sums.length) * (end - start)))));
    shares[third] += sum / total;
    fair[third] += 1 / sums.length;
  });
  const times = shares.map((share, third) => (fair[third] ? share / fair[third] : 0));
  const most = times.indexOf(Math.max(...times));
  return times[most] >= STANDS_OUT ? most : null;
}

/** Draws one label's map on `canvas`, which covers the photo. Parts that the model did not see are hatched. */
export function drawWhere(canvas, { image, grid }, attention) {
  const scale = LONGER_SIDE / Math.max(image.width, image.height);
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  const [left, top, right, bottom] = grid.box.map((edge) => edge * scale);
  const looked = clearness(attention);
  for (let y = 0; y < canvas.height; y += 1) {
    for (let x = 0; x < canvas.width; x += 1) {
      const u = (x + 0.5 - left) / (right - left);
      const v = (y + 0.5 - top) / (bottom - top);
      const isSeen = u >= 0 && u <= 1 && v >= 0 && v <= 1;
      const colour = isSeen ? heat(between(looked, u, v)) : hatching(x + y);
      pixels.data.set(colour, 4 * (y * canvas.width + x));
    }
  }
  context.putImageData(pixels, 0, 0);
}

/** Interpolates `map` at u, v in 0..1 between the centres of its cells. */
function between(map, u, v) {
  const [y0, y1, dy] = cells(v, map.length);
  const [x0, x1, dx] = cells(u, map[0].length);
  const above = map[y0][x0] * (1 - dx) + map[y0][x1] * dx;
  const below = map[y1][x0] * (1 - dx) + map[y1][x1] * dx;
  return above * (1 - dy) + below * dy;
}

function cells(position, count) {
  const at = Math.min(count - 1, Math.max(0, position * count - 0.5));
  const first = Math.floor(at);
  return [first, Math.min(count - 1, first + 1), at - first];
}

/** From transparent through orange to pale yellow. More is brighter, so colour vision is not needed. */
function heat(share) {
  return [200 + 55 * share, 60 + 170 * share, 20 + 110 * share ** 3, 225 * share];
}

function hatching(diagonal) {
  return diagonal % 8 < 2 ? [255, 255, 255, 70] : [0, 0, 0, 90];
}
