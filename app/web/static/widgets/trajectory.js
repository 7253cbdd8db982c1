// What each method did, step by step: the scalars that it declares, one plot each, a line per arm.

import { html, useEffect } from "../vendor/ui.js";
import { catalogue } from "../lib/api.js";
import { put, query } from "../lib/route.js";
import { LinePlot } from "../widgets/chart.js";

const MOST_TRACES = 120;
/** What a trace may be drawn over; sigma is noise over signal. */
const AXES = {
  step: { title: "over steps", x: "step", of: (row) => row.step + 1 },
  sigma: { title: "over sigma", x: "noise level sigma", of: (row) => row.sigma, flip: true, logX: true },
  snr: { title: "over log-SNR", x: "log-SNR", of: (row) => (row.sigma > 0 ? -2 * Math.log(row.sigma) : null) },
};

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
  const axis = AXES[query("over")] ?? AXES.step;
  const thin = query("thin") === "1";
  const plots = names.map((name) => {
    const lines = arms.map((arm, index) => line(cells.filter((cell) => cell.arm === index), name, arm.label, index, axis, thin)).filter((one) => one.points.length > 1);
    return lines.length > 0 && html`<${LinePlot} key=${name} title=${sentence(name.replaceAll("_", " "))} about=${known[name].label} most=${axis === AXES.step ? Math.max(...arms.map((arm) => arm.steps)) : -Infinity}
      xTitle=${axis.x} lines=${lines} log=${known[name].log} flip=${axis.flip} logX=${axis.logX} />`;
  }).filter(Boolean);
  const several = !row && cells.length > arms.length;
  return html`<div class="tight">
    ${!only && html`<div class="bar"><fieldset class="pills"><legend class="sr">Horizontal axis</legend>${Object.entries(AXES).map(([name, one]) => html`<label><input type="radio" name="over" checked=${one === axis} onChange=${() => put({ over: one === AXES.step ? null : name })} />${one.title}</label>`)}</fieldset>
      ${several && html`<label class="check push"><input type="checkbox" checked=${thin} onChange=${(event) => put({ thin: event.target.checked ? "1" : null })} />Each run as a thin line</label>`}</div>`}
    ${plots.length ? html`<div class="plots">${plots}</div>` : html`<p class="quiet">No step is told of yet. Plain sampling reports none.</p>`}
    ${several && !only && html`<p class="quiet">Lines are means over the rows, bands their range.</p>`}
  </div>`;
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1);

/** The mean over these cells at each place of the axis, with the range as a band; and, asked for, each alone. */
function line(cells, key, name, arm, axis, thin) {
  const inTime = ([one], [other]) => (axis.flip ? other - one : one - other);
  const runs = cells.map(({ course }) => [...course.rows.values()].filter((row) => typeof row[key] === "number" && axis.of(row) !== null).map((row) => [axis.of(row), row[key]]).sort(inTime));
  const places = new Map();
  for (const [at, value] of runs.flat()) places.set(at, [...(places.get(at) ?? []), value]);
  const found = [...places].sort(inTime);
  const by = (read) => found.map(([at, values]) => [at, read(values)]);
  const points = by((values) => values.reduce((sum, value) => sum + value, 0) / values.length);
  return { arm, name, points, single: thin ? runs : [], ...(cells.length > 1 ? { low: by((values) => Math.min(...values)), high: by((values) => Math.max(...values)) } : {}) };
}
