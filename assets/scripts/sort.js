// A table that sorts: a column's head is a button, which tells with `aria-sort` what it did. New rows come sorted too.
// A cell's number is its `data-value`; cells without one always come last.

// The places of values in their order, "ascending" or "descending"; equal ones, and nulls at the end, as they stood.
export function sorted(values, way) {
  return [...values.keys()].sort((first, second) => {
    const [a, b] = [values[first], values[second]];
    if (a === null || b === null) return (a === null) - (b === null);
    return way === "ascending" ? a - b : b - a;
  });
}

// Which way a click on a column's head sorts; `now`: { column, way }.
export function clicked(now, column) {
  return { column, way: now.column === column && now.way === "ascending" ? "descending" : "ascending" };
}

export function start({ element }) {
  let now = { column: -1, way: "ascending" };

  function value(row) {
    const cell = row.cells[now.column];
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  }

  function sort() {
    const body = element.querySelector("table.sortable tbody");
    if (!body || now.column < 0) return;
    const heads = [...element.querySelectorAll("table.sortable thead th")];
    heads.forEach((head, place) => {
      const told = place === now.column ? now.way : "none";
      if (head.getAttribute("aria-sort") !== told) head.setAttribute("aria-sort", told);
    });
    const rows = [...body.rows];
    const places = sorted(rows.map(value), now.way);
    if (places.some((from, place) => from !== place)) body.append(...places.map((from) => rows[from])); // each change is observed: none without need
  }

  element.addEventListener("click", (event) => {
    const head = event.target.closest("thead th");
    if (!head) return;
    now = clicked(now, head.cellIndex);
    sort();
  });

  // An update may change cells where they stand, so more than new children is looked at.
  const looked = { childList: true, subtree: true, characterData: true, attributeFilter: ["aria-sort", "data-value"] };
  new MutationObserver(sort).observe(element, looked);
}
