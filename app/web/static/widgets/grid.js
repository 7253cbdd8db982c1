// The grid: a row per prompt and seed, a column per arm. Each cell follows its own signal.

import { Fragment, html, useComputed, useState } from "../vendor/ui.js";
import { local, put, query } from "../lib/route.js";
import { count, short } from "../lib/say.js";
import { useTold } from "../lib/told.js";
import { scans } from "./code.js";
import { Swatch } from "../widgets/swatch.js";
import { Picture, View } from "../widgets/view.js";

const LOST = ["failed", "canceled", "expired", "missing"];
const SIZES = { s: "132px", m: "220px", l: "328px" };

/** The arms in the order of their columns, the pinned one first, without the hidden; from the address. */
export function columns(arms) {
  const listed = (name) => query(name).split(",").filter(Boolean).map(Number);
  const [order, hidden, [pinned]] = ["order", "hide", "pin"].map(listed);
  const place = (arm) => (arm === pinned ? -1 : order.includes(arm) ? order.indexOf(arm) : arm);
  const all = arms.map((_, arm) => arm).sort((one, other) => place(one) - place(other));
  return { all, hidden, pinned, shown: all.filter((arm) => !hidden.includes(arm)) };
}

/** `chosen`: a signal of {prompt, seed, a, b}; `choose(changes)` of it; `filter`: what a row must have. */
export function Grid({ live, chosen, choose, size, filter }) {
  const { id, prompts, seeds, arms } = live.found.value;
  const { shown, hidden, pinned } = columns(arms);
  const disputed = useTold(id, "disputed", filter === "disputed" && live.counts.value.succeeded);
  const groups = prompts.map((_, prompt) => ({ prompt, rows: seeds.map((_, seed) => seed).filter((seed) => matches(live, { prompt, seed }, filter, disputed.told)) })).filter(({ rows }) => rows.length);
  const held = (arm) => (arm === pinned ? "pinned" : "");
  return html`<${Fragment}>${filter === "disputed" && html`<p class="note">${disputed.told?.text ?? disputed.problem?.message ?? "Looking for disputed rows…"}</p>`}
  <div class="grid-scroll" tabindex="0" role="region" aria-label="Pictures by prompt and arm">
    <table class="grid" style=${{ "--cell": SIZES[size] ?? SIZES.m }}>
      <thead><tr><th scope="col">Prompt</th>${shown.map((arm) => html`<th scope="col" key=${arm} class=${held(arm)} style=${{ "--arm": `var(--arm-${arm})` }}><div class="bar">
        <${Swatch} arm=${arm} /><span>${arms[arm].label}</span>${arm === 0 && html`<span class="quiet">baseline</span>`}
        ${shown.length > 1 && html`<button type="button" class="plain push" aria-label="Hide ${arms[arm].label}" onClick=${() => put({ hide: [...hidden, arm].join() })}>×</button>`}</div></th>`)}</tr></thead>
      ${groups.map(({ prompt, rows }) => html`<tbody key=${prompt}>${rows.map((seed, place) => html`<tr key=${seed}>
        <th scope="row"><p dir="auto" class=${place ? "sr" : ""}>${prompts[prompt] || "(empty prompt)"}</p><p class="quiet num">seed ${seeds[seed]}</p></th>
        ${shown.map((arm) => html`<td key=${arm} class=${held(arm)} style=${{ "--arm": `var(--arm-${arm})` }}><${Cell} ...${{ live, chosen, choose }} cell=${live.at(prompt, seed, arm)} /></td>`)}
      </tr>`)}</tbody>`)}
    </table>
    ${!groups.length && html`<p class="quiet card">No row matches the filter.</p>`}
  </div><//>`;
}

/** Which columns there are and where: a list, so that it needs no dragging. */
export function Columns({ arms }) {
  const [open, see] = useState(false);
  const { all, hidden, pinned } = columns(arms);
  const move = (place, by) => {
    const next = [...all];
    next.splice(place + by, 0, ...next.splice(place, 1));
    put({ order: next.join() });
  };
  const show = (arm, on) => put({ hide: (on ? hidden.filter((one) => one !== arm) : [...hidden, arm]).join() });
  const first = all[0] === pinned ? 1 : 0;
  return html`<details class="menu" onToggle=${(event) => see(event.currentTarget.open)}><summary class="button small">Columns</summary>${open && html`<ul class="sheet plain left">${all.map((arm, place) => html`<li class="bar">
    <label class="check"><input type="checkbox" checked=${!hidden.includes(arm)} disabled=${!hidden.includes(arm) && hidden.length === arms.length - 1} onChange=${(event) => show(arm, event.target.checked)} /><${Swatch} arm=${arm} />${arms[arm].label}</label>
    <span class="push bar"><button type="button" class="plain" disabled=${place <= first} aria-label="Move ${arms[arm].label} to the left" onClick=${() => move(place, -1)}>←</button>
      <button type="button" class="plain" disabled=${place < first || place === all.length - 1} aria-label="Move ${arms[arm].label} to the right" onClick=${() => move(place, 1)}>→</button>
      <button type="button" class="plain" aria-pressed=${arm === pinned} aria-label="Pin ${arms[arm].label} at the left" onClick=${() => put({ pin: arm === pinned ? null : arm })}>Pin</button></span></li>`)}
    ${hidden.length > 0 && html`<li><button type="button" class="plain" onClick=${() => put({ hide: null })}>Show all arms</button></li>`}</ul>`}</details>`;
}

function matches(live, { prompt, seed }, filter, disputed) {
  if (!filter) return true;
  const { prompts, seeds, arms } = live.found.value;
  if (filter === "failed") return arms.some((_, arm) => LOST.includes(live.at(prompt, seed, arm).value.status));
  if (filter === "disputed") return Boolean(disputed?.rows.some((row) => row.prompt === prompt && row.seed === seed));
  return `${prompts[prompt]} seed ${seeds[seed]}`.toLowerCase().includes(filter.toLowerCase());
}

function Cell({ live, cell, chosen, choose }) {
  const { prompts, seeds, arms, width, height, qr } = live.found.value;
  const now = cell.value;
  const { prompt, seed, arm } = now;
  const role = useComputed(() => {
    const { a, b, ...row } = chosen.value;
    return prompt === row.prompt && seed === row.seed ? { [a]: "A", [b]: "B" }[arm] ?? "" : "";
  }).value;
  const name = `${arms[arm].label}, ${prompts[prompt]}, seed ${seeds[seed]}`;
  const pick = (which) => html`<button type="button" class="plain" aria-pressed=${role === which} aria-label="Compare as ${which}: ${name}" onClick=${() => choose({ prompt, seed, [which.toLowerCase()]: arm })}>${which}</button>`;
  const [image] = now.images;
  return html`<div class="cell ${role ? "chosen" : ""}" data-cell=${now.index}>
    <${View} width=${width} height=${height}>${image ? html`<${Picture} image=${image} alt=${name} loading="lazy" />` : LOST.includes(now.status) ? html`<${Lost} ...${{ live, now, name }} />` : html`<${Coming} cell=${cell} name=${name} />`}
      ${role && html`<span class="tag">${role}</span>`}<//>
    ${image || LOST.includes(now.status) ? html`<p class="quiet num">${image ? cost(now) : now.status}</p>` : html`<${Progress} cell=${cell} name=${name} />`}
    ${image?.qr && html`<p class="quiet num">${scans(image)}</p>`}
    ${image && html`<div class="bar">${pick("A")}${pick("B")}<a class="quiet push" href=${local(image.url)} download aria-label="PNG with its request: ${name}">PNG</a></div>`}
  </div>`;
}

/** How far a cell is: each step changes a number and a text, and draws nothing anew. */
function Progress({ cell, name }) {
  const steps = useComputed(() => cell.value.course.steps.value);
  const share = useComputed(() => steps.value?.fraction ?? 0);
  const text = useComputed(() => (cell.value.status === "processing" && steps.value?.total ? `step ${steps.value.step} of ${steps.value.total}` : cell.value.status));
  return html`<${Fragment}><progress max="1" value=${share} aria-label="Progress of ${name}"></progress><p class="quiet num">${text}</p><//>`;
}

function Coming({ cell, name }) {
  const stage = useComputed(() => (cell.value.status === "queued" ? "waits" : cell.value.course.steps.value?.stage ?? "starts"));
  const shown = cell.value.course.preview.value;
  if (!shown) return html`<div class="word"><p>${stage}</p></div>`;
  return html`<${Fragment}><img class="sharp" src=${local(shown.url)} alt="preview of ${name} after step ${shown.step + 1}" decoding="async" /><span class="tag right">preview</span><//>`;
}

const Lost = ({ live, now, name }) => html`<div class="word"><p>${reason(now)}</p>
  <button type="button" onClick=${() => live.act("retry", `?cell=${now.index}`)} aria-label="Make again: ${name}">Make again</button></div>`;

const reason = (now) => ({ canceled: "canceled", missing: "no longer kept", expired: "expired before it began" })[now.status] ?? `failed: ${now.error?.message ?? "no reason was given"}`;

/** What a picture took. */
function cost({ nfe, timings, warnings }) {
  return [`${count(nfe?.model + nfe?.weak || 0, "evaluation")}, ${short((timings?.denoise_ms ?? 0) / 1000)} s`, ...warnings].join("; ");
}
