// What each method did, step by step: the scalars that it declares, one plot each, a line per arm.

import { html, useEffect } from "../vendor/ui.js";
import { catalogue } from "../lib/api.js";
import { put, query } from "../lib/route.js";
import { LinePlot } from "../widgets/chart.js";

const MOST_TRACES = 120;

/** `only`: the traces to show, all by default. `row`: {prompt, seed}, or null for the mean over all. */
export function Trajectory({ live, only = null, row = null }) {
  const { methods } = catalogue.value ?? {};
  const { arms } = live.found.value;
  const cells = (row ? arms.map((_, arm) => live.at(row.prompt, row.seed, arm)) : live.cells.slice(0, MOST_TRACES)).map((cell) => cell.value);
  const ended = cells.filter((cell) => cell.images.length && !cell.course.traced);
  useEffect(() => void live.trace(ended), [ended.map((cell) => cell.index).join()]);
  live.beat.value; // the traces below are no signals; this tells when to look again
  if (!methods) return null;
  const known = Object.assign({}, ...arms.map((arm) => methods[arm.guidance.method]?.traces ?? {}));
  const names = Object.keys(known).filter((name) => !only || only.includes(name));
  const bySigma = query("over") === "sigma";
  const plots = names.map((name) => {
    const lines = arms.map((arm, index) => line(cells.filter((cell) => cell.arm === index), name, arm.label, index, bySigma)).filter((one) => one.points.length > 1);
    return lines.length > 0 && html`<${LinePlot} key=${name} title=${sentence(name.replaceAll("_", " "))} about=${known[name].label} most=${Math.max(...arms.map((arm) => arm.steps))} xTitle=${bySigma ? "noise level sigma" : "step"} lines=${lines} log=${known[name].log} flip=${bySigma} />`;
  }).filter(Boolean);
  return html`<div class="tight">
    ${!only && html`<fieldset class="pills"><legend class="sr">Horizontal axis</legend>${[["step", "over steps"], ["sigma", "over sigma"]].map(([value, text]) => html`<label><input type="radio" name="over" checked=${(value === "sigma") === bySigma} onChange=${() => put({ over: value === "sigma" ? value : null })} />${text}</label>`)}</fieldset>`}
    ${plots.length ? html`<div class="plots">${plots}</div>` : html`<p class="quiet">No step is told of yet. Plain sampling reports none.</p>`}
    ${!row && !only && cells.length > arms.length && html`<p class="quiet">Lines are means over the rows, bands their range.</p>`}
  </div>`;
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1);

/** The mean over these cells at each step, with the range as a band. */
function line(cells, key, name, arm, bySigma) {
  const steps = new Map();
  for (const cell of cells) {
    for (const row of cell.course.rows.values()) {
      if (typeof row[key] !== "number") continue;
      const at = bySigma ? row.sigma : row.step + 1;
      if (!steps.has(at)) steps.set(at, []);
      steps.get(at).push(row[key]);
    }
  }
  const found = [...steps].sort(([a], [b]) => (bySigma ? b - a : a - b));
  const by = (read) => found.map(([at, values]) => [at, read(values)]);
  const points = by((values) => values.reduce((sum, value) => sum + value, 0) / values.length);
  return { arm, name, points, ...(cells.length > 1 ? { low: by((values) => Math.min(...values)), high: by((values) => Math.max(...values)) } : {}) };
}
