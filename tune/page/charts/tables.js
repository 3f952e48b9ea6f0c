/* The tables: rows of trials linked to the charts, and heads that sort. */

function linkTable() {
  const rows = new Map();
  for (const row of document.querySelectorAll("tr[data-n]")) rows.set(Number(row.dataset.n), row);
  trials.forEach((trial, i) => {
    rows.get(trial.n).addEventListener("pointerenter", () => choose(i));
    rows.get(trial.n).addEventListener("pointerleave", () => choose(null));
  });

  let pointed = null;
  link("trials", {
    choice: () => {
      pointed?.classList.remove("pointed");
      pointed = chosen === null ? null : rows.get(trials[chosen].n);
      pointed?.classList.add("pointed");
    },
    filter: () => {
      trials.forEach((trial, i) => (rows.get(trial.n).hidden = !kept[i]));
      const count = kept.filter(Boolean).length;
      const rest = "the filter of the parameters leaves out the others";
      byId("listed").textContent =
        count === trials.length
          ? `${many(count)} trials`
          : `${many(count)} of ${many(trials.length)} trials; ${rest}`;
    },
  });
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.append(...head.childNodes);
    head.append(button);

    // Numbers begin with the largest, words with the first.
    const numbers = head.classList.contains("n");
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const down = before ? before === "ascending" : numbers;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sortRows(table.tBodies[0], column, down);
    });
  });
}

/** Missing values and rows of sums stay at the end. */
function sortRows(body, column, down) {
  const isSum = (row) => row.classList.contains("sum");
  const rows = [...body.rows].filter((row) => !isSum(row));
  const sums = [...body.rows].filter(isSum);

  const number = (row) => row.cells[column].dataset.v ?? null;
  const text = (row) => row.cells[column].textContent;
  const words = new Intl.Collator(undefined, { numeric: true });
  const known = rows.filter((row) => number(row) !== null);
  const missing = rows.filter((row) => number(row) === null);
  const sorted = known.length
    ? known.sort((a, b) => (down ? -1 : 1) * (number(a) - number(b)))
    : rows.sort((a, b) => (down ? -1 : 1) * words.compare(text(a), text(b)));
  body.append(...sorted, ...(known.length ? missing : []), ...sums);
}
