// Tables sort by a click on a column's head, and those that are long have a field that filters their rows.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], rows = [...body.rows];
  if (rows.length < 2) continue;
  const text = (row, i) => row.cells[i].textContent;
  const compare = (a, b) => {
    const [x, y] = [a, b].map((cell) => parseFloat(cell));
    if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y) || a.localeCompare(b, undefined, { numeric: true });
    return x - y;
  };
  [...table.tHead.rows[0].cells].forEach((head, i) => {
    let sign = 1;
    const sort = () => {
      body.append(...[...body.rows].sort((a, b) => sign * compare(text(a, i), text(b, i))));
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.ariaSort = sign > 0 ? "ascending" : "descending";
      sign = -sign;
    };
    head.tabIndex = 0;
    head.onclick = sort;
    head.onkeydown = (event) => event.key === "Enter" && sort();
  });
  if (rows.length < 10) continue;
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = field.ariaLabel = "only rows with …";
  field.oninput = () => {
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(field.value.toLowerCase());
  };
  table.parentNode.before(field);
}
