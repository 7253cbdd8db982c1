// What differs between two cells of a row: parameters first, then scores, in a sentence and a table.

import { html } from "../vendor/ui.js";
import { catalogue } from "../lib/api.js";
import { short } from "../lib/say.js";
import { QR_SCORES } from "./code.js";

/** `a`, `b`: cells; `arms`: their arms; another `beat`: their traces have grown. */
export function Differs({ a, b, arms }) {
  const { methods, scores } = catalogue.value ?? { methods: {}, scores: {} };
  const given = [a, b].map((cell) => parameters(arms[cell.arm]));
  const names = [...new Set(given.flatMap(Object.keys))];
  const usual = [a, b].map((cell) => flat(methods[arms[cell.arm].guidance.method]?.defaults ?? {}));
  const told = (name) => ["method", "scale"].includes(name) || given.some((one, i) => name in one && short(one[name]) !== short(usual[i][name]));
  const rows = names.map((name) => [name, given[0][name], given[1][name]]);
  const apart = rows.filter(([name, one, other]) => told(name) && short(one) !== short(other));
  const rest = rows.filter((row) => !apart.includes(row));
  const metrics = Object.keys(a.metrics).filter((name) => name in b.metrics && !QR_SCORES.includes(name));
  const costs = [["evaluations", nfe(a), nfe(b)], ["denoising, s", a.timings.denoise_ms / 1000, b.timings.denoise_ms / 1000]];
  return html`<div class="tight">
    <p class="note">${said(a, b, arms, methods)}</p>
    <div class="scroll" tabindex="0" role="region" aria-label="Parameters that differ"><table class="data">
      <thead><tr><th scope="col">Parameter</th><th scope="col">A ${arms[a.arm].label}</th><th scope="col">B ${arms[b.arm].label}</th></tr></thead>
      <tbody>${apart.map(([name, one, other]) => html`<tr><th scope="row">${name.replaceAll("_", " ")}</th><td class="strong">${short(one)}</td><td class="strong">${short(other)}</td></tr>`)}</tbody>
    </table></div>
    ${rest.length > 0 && html`<details><summary>${rest.length} more, equal or at the method's default</summary>
      <table class="data"><tbody>${rest.map(([name, one, other]) => html`<tr><th scope="row">${name.replaceAll("_", " ")}</th><td>${short(one)}</td><td>${short(other)}</td></tr>`)}</tbody></table></details>`}
    <div class="scroll" tabindex="0" role="region" aria-label="Scores of A and B"><table class="data">
      <thead><tr><th scope="col">Score</th><th scope="col">A</th><th scope="col">B</th><th scope="col">B − A</th></tr></thead>
      <tbody>${[...metrics.map((name) => [scores[name]?.title ?? name, a.metrics[name], b.metrics[name]]), ...costs].map(([name, one, other]) => html`<tr><th scope="row">${name}</th><td>${short(one)}</td><td>${short(other)}</td><td>${signed(other - one)}</td></tr>`)}</tbody>
    </table></div>
    <p class="quiet">One pair says nothing of others: see Metrics for intervals over prompts.</p>
  </div>`;
}

const nfe = (cell) => (cell.nfe?.model ?? 0) + (cell.nfe?.weak ?? 0);
const signed = (value) => (value > 0 ? "+" : "") + short(value).replace("-", "−");

/** All that the arm was run with, with the method's name first. */
function parameters({ guidance, steps, sampler }) {
  const { method, ...rest } = guidance;
  return { method, ...flat(rest), steps, sampler };
}

/** Values by name, those of an object within as `refine stop`; without what is null. */
function flat(values, before = "") {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null).flatMap(([name, value]) =>
    typeof value === "object" && !Array.isArray(value) ? Object.entries(flat(value, `${before}${name} `)) : [[before + name, value]]));
}

/** The finding in words: which parameter differs, what it did to saturation and to the guidance norm. */
function said(a, b, arms, methods) {
  const [one, other] = [arms[a.arm], arms[b.arm]];
  const title = (arm) => methods[arm.guidance.method]?.title ?? arm.guidance.method;
  const differs = one.guidance.method === other.guidance.method
    ? `${names(one, other).join(", ") || "nothing"} differs`
    : `the method differs: ${title(one)} and ${title(other)}`;
  const parts = [];
  if ("saturation" in a.metrics && "saturation" in b.metrics) parts.push(`saturation goes from ${short(a.metrics.saturation)} to ${short(b.metrics.saturation)}`);
  const norms = [a, b].map(meanNorm);
  if (norms.every((norm) => norm !== null)) parts.push(`the mean guidance norm from ${short(norms[0])} to ${short(norms[1])}`);
  return `From A to B ${differs}; ${parts.join(", ")}.`;
}

function names(one, other) {
  const [p, q] = [parameters(one), parameters(other)];
  return [...new Set([...Object.keys(p), ...Object.keys(q)])].filter((name) => short(p[name]) !== short(q[name])).map((name) => `${name.replaceAll("_", " ")} (${short(p[name])} and ${short(q[name])})`);
}

function meanNorm(cell) {
  const values = [...cell.course.rows.values()].map((row) => row.guidance_norm).filter((value) => typeof value === "number");
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}
