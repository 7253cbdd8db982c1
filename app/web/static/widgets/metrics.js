// Scores of all arms: paired differences with their intervals first, then means, sets, one score against another.

import { html } from "../vendor/ui.js";
import { put, query, root } from "../lib/route.js";
import { short } from "../lib/say.js";
import { useTold } from "../lib/told.js";
import { DotPlot, Scatter } from "../widgets/chart.js";
import { Field, Select } from "../widgets/field.js";
import { Sets } from "./sets.js";
import { Sorted } from "./sorted.js";

/** What a picture took, to be set against its scores. */
const COSTS = {
  nfe: { title: "Evaluations", of: ({ nfe }) => nfe && nfe.model + nfe.weak },
  seconds: { title: "Denoising, s", of: ({ timings }) => timings && timings.denoise_ms / 1000 },
};

export function Metrics({ live }) {
  const { id, arms } = live.found.value;
  const made = live.counts.value.succeeded ?? 0;
  const { told, problem } = useTold(id, "results", made);
  if (!told) return html`<p class="quiet">${problem ? problem.message : made ? "Counting…" : "No picture is made yet."}</p>`;
  return html`<div class="stack">
    ${told.notes.map((note) => html`<p class="note">${note}</p>`)}
    <${Dots} told=${told} arms=${arms} />
    <${Means} told=${told} arms=${arms} />
    <${Sets} live=${live} />
    ${told.metrics.length > 1 && html`<${Against} live=${live} metrics=${told.metrics} />`}
  </div>`;
}

/** A plot per score: each arm's difference to the baseline, or its own mean. */
function Dots({ told, arms }) {
  const apart = arms.length > 1 && query("dots") !== "means";
  const choice = (means, text) => html`<label><input type="radio" name="dots" checked=${apart !== means} onChange=${() => put({ dots: means ? "means" : null })} />${text}</label>`;
  return html`<div class="tight">
    ${arms.length > 1 && html`<fieldset class="pills"><legend class="sr">What the dots are</legend>${choice(false, `Difference to ${arms[0].label}`)}${choice(true, "Mean of each arm")}</fieldset>`}
    <div class="plots">${told.metrics.map((metric) => {
      const dots = (apart ? metric.differences : metric.arms).map((one, arm) => one && one.mean !== null && { arm, name: arms[arm].label, value: one.mean, low: one.low, high: one.high, text: one.text ?? spanned(one) }).filter(Boolean);
      const title = apart ? `${metric.title}: difference to ${arms[0].label}` : `${metric.title}: mean`;
      return dots.length > 0 && html`<${DotPlot} key=${metric.name} title=${title} xTitle=${metric.unit || metric.title} dots=${dots} zero=${apart ? 0 : null} />`;
    })}</div></div>`;
}

const spanned = ({ mean, low, high }) => (low === null ? `${short(mean)} (one: no interval)` : `${short(mean)} [${short(low)}, ${short(high)}]`);

/** A row per arm, a column per score. */
function Means({ told, arms }) {
  const scores = told.metrics.map((metric) => ({
    name: metric.name, title: metric.title, about: metric.better && `${metric.better} is better`,
    of: (arm) => metric.arms[arm].mean,
    show: (arm) => {
      const { mean, deviation } = metric.arms[arm];
      const difference = metric.differences[arm];
      return html`${short(mean)}${deviation !== null ? ` (${short(deviation)})` : ""}${difference && !difference.clear && html`<br /><span class="quiet">no clear difference</span>`}`;
    },
  }));
  const costs = [
    { name: "nfe", title: "Evaluations per picture", of: (arm) => Math.max(...told.cost[arm].nfe), show: (arm) => told.cost[arm].nfe.join(", ") || "–" },
    { name: "seconds", title: "Denoising, s", of: (arm) => told.cost[arm].seconds, show: (arm) => short(told.cost[arm].seconds) },
  ];
  const judged = told.metrics.filter((metric) => metric.scorers.length);
  return html`<div class="tight">
    <${Sorted} label="Means of all arms" title="Mean (deviation)" columns=${[...scores, ...costs]} rows=${arms.map((_, arm) => arm)} head=${(arm) => arms[arm].label} />
    ${judged.map((metric) => html`<p class=${metric.scorers.length > 1 ? "note trouble" : "quiet"}>${metric.title} by ${metric.scorers.map((one) => `${one.name}, SHA-256 ${one.sha256.slice(0, 8)}`).join("; and by ")}${metric.scorers.length > 1 ? ": the workers have different models for it, so its numbers cannot be compared" : ""}.</p>`)}
  </div>`;
}

/** A dot per picture, by two of its scores. */
function Against({ live, metrics }) {
  const { id, arms, prompts, seeds } = live.found.value;
  const names = metrics.map((metric) => metric.name);
  const [u, v] = [query("u", names[0]), query("v", names[1])];
  const title = (name) => COSTS[name]?.title ?? metrics.find((metric) => metric.name === name)?.title ?? name;
  const options = [...names, ...Object.keys(COSTS)].map((name) => [name, title(name)]);
  const value = (cell, name) => (COSTS[name] ? COSTS[name].of(cell) : cell.metrics[name]);
  const cells = live.cells.map((cell) => cell.value).filter((cell) => cell.images.length && [u, v].every((name) => Number.isFinite(value(cell, name))));
  const select = (label, key, chosen) => html`<${Field} label=${label}>${(attributes) => html`<${Select} attributes=${attributes} value=${chosen} options=${options} onChange=${(name) => put({ [key]: name })} />`}<//>`;
  return html`<div class="half tight"><div class="fields">${select("Across", "u", u)}${select("Upwards", "v", v)}</div>
    <${Scatter} title="${title(v)} against ${title(u)}" xTitle=${title(u)} yTitle=${title(v)} dots=${cells.map((cell) => ({ arm: cell.arm, name: `${arms[cell.arm].label}, ${prompts[cell.prompt]}, seed ${seeds[cell.seed]}`, x: value(cell, u), y: value(cell, v),
      href: `${root}/compare/${id}?view=pair&p=${cell.prompt}&s=${cell.seed}&b=${cell.arm}${cell.arm ? "" : "&a=1"}` }))} /></div>`;
}
