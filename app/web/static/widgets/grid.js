// The grid: a row per prompt and seed, a column per arm. Each cell follows its own signal.

import { Fragment, html } from "../vendor/ui.js";
import { local } from "../lib/route.js";
import { count, short } from "../lib/say.js";
import { scans } from "./code.js";
import { Swatch } from "../widgets/swatch.js";
import { Picture, View } from "../widgets/view.js";

const SIZES = { s: "132px", m: "220px", l: "340px" };

/** `chosen`: {prompt, seed, a, b}; `choose(changes)`; `hidden`: indices of arms; `filter`: what a row must have. */
export function Grid({ live, chosen, choose, size, hidden, hide, filter }) {
  const { prompts, seeds, arms } = live.found.value;
  const shown = arms.map((_, index) => index).filter((index) => !hidden.includes(index));
  const rows = prompts.flatMap((_, prompt) => seeds.map((_, seed) => ({ prompt, seed }))).filter((row) => matches(live, row, filter));
  return html`<div class="grid-scroll" tabindex="0" role="region" aria-label="Pictures by prompt and arm">
    <table class="grid" style=${{ "--cell": SIZES[size] ?? SIZES.m }}>
      <thead><tr><th scope="col">Prompt</th>${shown.map((arm) => html`<th scope="col" style=${{ "--arm": `var(--arm-${arm})` }}><div class="bar">
        <${Swatch} arm=${arm} /><span>${arms[arm].label}</span>${arm === 0 && html`<span class="quiet">baseline</span>`}
        ${shown.length > 1 && html`<button type="button" class="plain push" aria-label="Hide ${arms[arm].label}" onClick=${() => hide(arm)}>×</button>`}</div></th>`)}</tr></thead>
      <tbody>${rows.map(({ prompt, seed }) => html`<tr key="${prompt}/${seed}">
        <th scope="row"><p dir="auto">${prompts[prompt] || "(empty prompt)"}</p><p class="quiet num">seed ${seeds[seed]}</p></th>
        ${shown.map((arm) => html`<td style=${{ "--arm": `var(--arm-${arm})` }}><${Cell} key=${arm} live=${live} cell=${live.at(prompt, seed, arm)}
          role=${prompt === chosen.prompt && seed === chosen.seed ? (arm === chosen.a ? "A" : arm === chosen.b ? "B" : "") : ""} choose=${choose} /></td>`)}
      </tr>`)}</tbody>
    </table>
    ${rows.length === 0 && html`<p class="quiet card">No row matches the filter.</p>`}
  </div>`;
}

function matches(live, { prompt, seed }, filter) {
  if (!filter) return true;
  const { prompts, seeds, arms } = live.found.value;
  if (filter === "failed") return arms.some((_, arm) => ["failed", "canceled", "expired", "missing"].includes(live.at(prompt, seed, arm).value.status));
  return `${prompts[prompt]} seed ${seeds[seed]}`.toLowerCase().includes(filter.toLowerCase());
}

function Cell({ live, cell, role, choose }) {
  const { prompts, seeds, arms, width, height } = live.found.value;
  const now = cell.value;
  const { prompt, seed, arm } = now;
  const name = `${arms[arm].label}, ${prompts[prompt]}, seed ${seeds[seed]}`;
  const pick = (which) => () => choose({ prompt, seed, [which]: arm });
  return html`<div class="cell ${role ? "chosen" : ""}">
    <${View} width=${width} height=${height}>${inside(live, now, name)}${role && html`<span class="tag">${role}</span>`}<//>
    ${["queued", "starting", "processing"].includes(now.status) && html`<progress max="1" value=${now.progress?.fraction ?? 0} aria-label="Progress of ${name}"></progress>`}
    <p class="quiet num">${told(now)}</p>${now.images[0]?.qr && html`<p class="quiet num">${scans(now.images[0], live.found.value.qr.data)}</p>`}
    ${now.images.length > 0 && html`<div class="bar">
      <button type="button" class="plain" aria-pressed=${role === "A"} aria-label="Compare as A: ${name}" onClick=${pick("a")}>A</button>
      <button type="button" class="plain" aria-pressed=${role === "B"} aria-label="Compare as B: ${name}" onClick=${pick("b")}>B</button>
      <a class="quiet push" href=${local(now.images[0].url)} download aria-label="PNG with its request: ${name}">PNG</a></div>`}
  </div>`;
}

function inside(live, now, name) {
  if (now.images.length) return html`<${Picture} image=${now.images[0]} alt="${name}" />`;
  const retry = () => live.act("retry", `?cell=${now.index}`);
  switch (now.status) {
    case "failed": case "canceled": case "expired": case "missing":
      return html`<div class="word"><p>${reason(now)}</p><button type="button" onClick=${retry} aria-label="Make again: ${name}">Make again</button></div>`;
    default:
      return now.preview
        ? html`<${Fragment}><img class="sharp" src=${local(now.preview.url)} alt="preview of ${name} after step ${now.preview.step + 1}" /><span class="tag right">preview</span><//>`
        : html`<div class="word"><p>${now.status === "queued" ? "waits" : now.progress?.stage ?? "starts"}</p></div>`;
  }
}

const reason = (now) => ({ canceled: "canceled", missing: "no longer kept", expired: "expired before it began" })[now.status] ?? `failed: ${now.error?.message ?? "no reason was given"}`;

/** One line on a cell: how far it is, or what it took. */
function told(now) {
  if (now.images.length) {
    const warned = now.warnings.length ? `; ${now.warnings.join("; ")}` : "";
    return `${count(now.nfe?.model + now.nfe?.weak || 0, "evaluation")}, ${short((now.timings?.denoise_ms ?? 0) / 1000)} s${warned}`;
  }
  if (now.status === "processing" && now.progress?.total) return `step ${now.progress.step} of ${now.progress.total}`;
  return now.status;
}
