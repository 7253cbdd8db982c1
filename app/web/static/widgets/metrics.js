// Scores of all arms: paired differences with their intervals first, then means, then one score against another.

import { html, signal, useEffect } from "../vendor/ui.js";
import { comparison, get } from "../lib/api.js";
import { put, query, root } from "../lib/route.js";
import { short } from "../lib/say.js";
import { DotPlot, Scatter } from "../widgets/chart.js";
import { Field, Select } from "../widgets/field.js";

const results = signal(null);
/** What a picture took, to be set against its scores. */
const COSTS = {
  nfe: { title: "Evaluations", of: ({ nfe }) => nfe && nfe.model + nfe.weak },
  seconds: { title: "Denoising, s", of: ({ timings }) => timings && timings.denoise_ms / 1000 },
};

export function Metrics({ live }) {
  const { id, arms, prompts, seeds } = live.found.value;
  const made = live.counts.value.succeeded ?? 0;
  useEffect(() => {
    results.value = null;
    if (made) get(`${comparison(id)}/results`).then((told) => (results.value = told)).catch(() => {});
  }, [id, made]);
  const told = results.value;
  if (!told) return html`<p class="quiet">${made ? "Counting…" : "No picture is made yet."}</p>`;
  const names = told.metrics.map((metric) => metric.name);
  const [u, v] = [query("u", names[0]), query("v", names[1] ?? names[0])];
  const all = [...names, ...Object.keys(COSTS)];
  const title = (name) => COSTS[name]?.title ?? told.metrics.find((metric) => metric.name === name)?.title ?? name;
  const value = (cell, name) => (COSTS[name] ? COSTS[name].of(cell) : cell.metrics[name]);
  const cells = live.cells.map((cell) => cell.value).filter((cell) => cell.images.length && [u, v].every((name) => Number.isFinite(value(cell, name))));
  return html`<div class="stack">
    ${told.notes.map((note) => html`<p class="note">${note}</p>`)}
    <div class="plots">${told.metrics.map((metric) => {
      const dots = metric.differences.map((one, arm) => one && { arm, name: arms[arm].label, value: one.mean, low: one.low, high: one.high, text: one.text }).filter(Boolean);
      return dots.length > 0 && html`<${DotPlot} key=${metric.name} title="${metric.title}: difference to ${arms[0].label}" xTitle=${metric.unit || metric.title} dots=${dots} />`;
    })}</div>
    <div class="card scroll" tabindex="0" role="region" aria-label="Means of all arms"><table class="data">
      <thead><tr><th scope="col">Mean (deviation)</th>${arms.map((arm) => html`<th scope="col">${arm.label}</th>`)}</tr></thead>
      <tbody>${told.metrics.map((metric) => html`<tr><th scope="row">${metric.title}${metric.better ? ` (${metric.better} is better)` : ""}</th>${metric.arms.map((arm, i) => html`<td>${short(arm.mean)}${arm.deviation !== null ? ` (${short(arm.deviation)})` : ""}
          ${metric.differences[i] && html`<br /><span class="quiet">${metric.differences[i].clear ? "" : "no clear difference"}</span>`}</td>`)}</tr>`)}
        <tr><th scope="row">Evaluations per picture</th>${told.cost.map((cost) => html`<td>${cost.nfe.join(", ") || "–"}</td>`)}</tr>
        <tr><th scope="row">Denoising, s</th>${told.cost.map((cost) => html`<td>${short(cost.seconds)}</td>`)}</tr></tbody>
    </table></div>
    ${names.length > 1 && html`<div class="half tight"><div class="fields">
      <${Field} label="Across">${(attributes) => html`<${Select} attributes=${attributes} value=${u} options=${all.map((name) => [name, title(name)])} onChange=${(name) => put({ u: name })} />`}<//>
      <${Field} label="Upwards">${(attributes) => html`<${Select} attributes=${attributes} value=${v} options=${all.map((name) => [name, title(name)])} onChange=${(name) => put({ v: name })} />`}<//></div>
      <${Scatter} title="${title(v)} against ${title(u)}" xTitle=${title(u)} yTitle=${title(v)} dots=${cells.map((cell) => ({ arm: cell.arm, name: `${arms[cell.arm].label}, ${prompts[cell.prompt]}, seed ${seeds[cell.seed]}`, x: value(cell, u), y: value(cell, v),
        href: `${root}/compare/${id}?view=pair&p=${cell.prompt}&s=${cell.seed}&b=${cell.arm}${cell.arm ? "" : "&a=1"}` }))} /></div>`}
  </div>`;
}
