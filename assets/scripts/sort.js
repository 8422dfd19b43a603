// A table that sorts: a column's head is a button, which tells with `aria-sort` what it did. New rows come sorted too.
// `element` is given by the component. A cell's number is its `data-value`; cells without one always come last.
const sorted = { column: -1, way: "ascending" };

function value(row) {
  const cell = row.cells[sorted.column];
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
}

function compared(first, second) {
  const [a, b] = [value(first), value(second)];
  if (a === null || b === null) return (a === null) - (b === null);
  return sorted.way === "ascending" ? a - b : b - a;
}

function sort() {
  const body = element.querySelector("table.sortable tbody");
  if (!body || sorted.column < 0) return;
  const heads = [...element.querySelectorAll("table.sortable thead th")];
  heads.forEach((head, place) => {
    const told = place === sorted.column ? sorted.way : "none";
    if (head.getAttribute("aria-sort") !== told) head.setAttribute("aria-sort", told);
  });
  const rows = [...body.rows];
  const wanted = [...rows].sort(compared);
  if (wanted.some((row, place) => row !== rows[place])) body.append(...wanted); // each change is observed: none without need
}

element.addEventListener("click", (event) => {
  const head = event.target.closest("thead th");
  if (!head) return;
  const again = sorted.column === head.cellIndex && sorted.way === "ascending";
  Object.assign(sorted, { column: head.cellIndex, way: again ? "descending" : "ascending" });
  sort();
});

// An update may change cells where they stand, so more than new children is looked at.
const looked = { childList: true, subtree: true, characterData: true, attributeFilter: ["aria-sort", "data-value"] };
new MutationObserver(sort).observe(element, looked);
