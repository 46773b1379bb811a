// A click on a header sorts its table: numbers by data-value, everything else as text.
document.querySelectorAll("table.sortable th").forEach((head) => head.addEventListener("click", () => {
  const rising = head.getAttribute("aria-sort") !== "ascending";
  head.parentNode.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  const body = head.closest("table").tBodies[0];
  const key = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
  const order = (a, b) => key(a).localeCompare(key(b), undefined, { numeric: true });
  const both = (a, b) => isNaN(key(a)) || isNaN(key(b)) || key(a) === "" || key(b) === "" ? order(a, b) : key(a) - key(b);
  body.append(...[...body.rows].sort((a, b) => (rising ? 1 : -1) * both(a, b)));
}));
