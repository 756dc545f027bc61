"use strict";
// A click on a column's header sorts the table of labels by it. Without scripts, the table stays in the tagger's order.
const table = document.getElementById("label-table");
const heads = Array.from(table.tHead.rows[0].cells);

function sortBy(column) {
  const head = heads[column];
  const first = column === 0 ? "ascending" : "descending";
  const other = column === 0 ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  heads.forEach((cell) => cell.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", order);
  const text = (row) => row.cells[column].textContent.trim();
  const number = (row) => (text(row) === "–" ? -1 : Number(text(row)));
  const compare = column === 0 ? (a, b) => text(a).localeCompare(text(b)) : (a, b) => number(a) - number(b);
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  body.append(...Array.from(body.rows).sort((a, b) => sign * compare(a, b)));
}

heads.forEach((head, column) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => sortBy(column));
});
