// A table that its reader sorts by any column; the address holds by which.

import { html } from "../vendor/ui.js";
import { put, query } from "../lib/route.js";

const ARROWS = { ascending: "▲", descending: "▼" };

/** `columns`: [{name, title, about, of: row -> number or null, show: row -> what is seen}]; `head(row)`: its name. */
export function Sorted({ label, title, columns, rows, head }) {
  const [, down, name] = /^(-?)(.*)$/.exec(query("sort"));
  const by = columns.find((column) => column.name === name);
  const way = by && (down ? "descending" : "ascending");
  const next = (column) => (column !== by ? `-${column.name}` : down ? column.name : null);
  return html`<div class="card scroll" tabindex="0" role="region" aria-label=${label}><table class="data sorted">
    <thead><tr><th scope="col">${title}</th>${columns.map((column) => html`<th scope="col" key=${column.name} aria-sort=${column === by ? way : null}>
      <button type="button" class="plain" onClick=${() => put({ sort: next(column) })}>${column.title}<span aria-hidden="true">${column === by ? ARROWS[way] : "↕"}</span></button>
      ${column.about && html`<p class="quiet">${column.about}</p>`}</th>`)}</tr></thead>
    <tbody>${(by ? sorted(rows, by.of, down ? -1 : 1) : rows).map((row) => html`<tr><th scope="row">${head(row)}</th>${columns.map((column) => html`<td>${column.show(row)}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}

/** In this order of their values; rows without one come last either way. */
function sorted(rows, of, sign) {
  const known = (row) => Number.isFinite(of(row));
  return [...rows].sort((one, other) => (known(one) && known(other) ? sign * (of(one) - of(other)) : known(other) - known(one)));
}
