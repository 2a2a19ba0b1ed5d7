// Tables that become cards on a narrow screen: each cell knows the title of its column.

import { h } from "./dom.js";

/** `columns` are [title, class]; `rows` are { key, cells, after }; `after` is shown below a row, as wide as the table. */
export function table(label, columns, rows, name = "") {
  return h(
    "table",
    { class: `rows ${name}`, role: "table", "aria-label": label },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map(heading))),
    h(
      "tbody",
      { role: "rowgroup" },
      rows.flatMap((row) => tableRow(columns, row)),
    ),
  );
}

function heading([title, kind]) {
  return h(
    "th",
    { role: "columnheader", scope: "col", class: kind ?? null },
    title || h("span", { class: "hidden" }, "actions"),
  );
}

function tableRow(columns, row) {
  const cells = row.cells.map((cell, index) => {
    const [title, kind] = columns[index];
    const isEmpty = cell === "" || cell === null || cell === undefined;
    const classes = [kind, isEmpty ? "empty" : ""].filter(Boolean).join(" ");
    return h(
      "td",
      { role: "cell", class: classes || null, "data-label": title || null },
      isEmpty ? "" : h("div", null, cell),
    );
  });
  const shown = [h("tr", { role: "row", key: row.key, class: row.name ?? null }, cells)];
  if (row.after) {
    const wide = h("td", { role: "cell", colspan: String(columns.length) }, row.after);
    shown.push(h("tr", { role: "row", key: `${row.key} after`, class: "after" }, wide));
  }
  return shown;
}
