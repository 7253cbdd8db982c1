// The arms' pictures as sets: how varied each is, how far from the baseline's; in words where they are too few.

import { html } from "../vendor/ui.js";
import { requestOf } from "../lib/draft.js";
import { root } from "../lib/route.js";
import { count, short } from "../lib/say.js";
import { useTold } from "../lib/told.js";

export function Sets({ live }) {
  const { id, metrics } = live.found.value;
  const made = live.open.value ? 0 : live.counts.value.succeeded ?? 0;
  const { told, problem } = useTold(id, "distribution", made);
  const arms = live.found.value.arms.map((arm) => arm.label);
  const measured = (name) => !metrics.includes(name) && html` <a href="${root}/?spec=${encodeURIComponent(JSON.stringify({ ...requestOf(live.found.value), metrics: [...metrics, name] }))}">Fork with it</a>`;
  return html`<section class="card tight" aria-labelledby="sets"><h2 id="sets">The pictures as sets</h2>
    ${told ? told.spaces.map((space) => (space.unavailable ? html`<p class="quiet">${space.title}: ${space.unavailable}.${measured(space.name)}</p>` : html`<${Space} key=${space.name} space=${space} arms=${arms} />`))
    : html`<p class="quiet">${problem ? problem.message : made ? "Comparing the sets…" : "They are compared when no picture is being made."}</p>`}
  </section>`;
}

function Space({ space, arms }) {
  const { name, title, unit, scorer, least, notes } = space;
  const first = arms[0];
  const rows = [
    ["Diversity within a prompt", ({ diversity, prompts }) => (diversity === null ? "one picture of each prompt" : `${short(diversity)} (${count(prompts, "prompt")})`), space.arms],
    [`Diversity, minus ${first}`, (difference) => difference.text, space.differences],
    [`Distance to the same cell of ${first}`, ({ moved }) => short(moved), space.apart],
    ...(least ? [
      [`KID to ${first}`, (apart) => (apart.kid === null ? few(apart, least.kid) : `${short(apart.kid)} [${short(apart.kid_low)}, ${short(apart.kid_high)}]`), space.apart],
      [`FD to ${first}`, (apart) => (apart.fd === null ? few(apart, least.fd) : short(apart.fd)), space.apart],
    ] : []),
  ];
  return html`<div class="tight"><h3>${title}</h3>
    <p class="quiet">${unit}; by ${scorer.name}, SHA-256 ${scorer.sha256.slice(0, 8)}</p>
    ${notes.map((note) => html`<p class="note">${note}</p>`)}
    <div class="scroll" tabindex="0" role="region" aria-label="Sets by ${title}"><table class="data" id="sets-${name}">
      <thead><tr><th scope="col">Figure [95 %]</th>${arms.map((arm) => html`<th scope="col">${arm}</th>`)}</tr></thead>
      <tbody>${rows.map(([text, show, values]) => html`<tr><th scope="row">${text}</th>${values.map((value) => html`<td>${value ? show(value) : "–"}</td>`)}</tr>`)}</tbody></table></div>
  </div>`;
}

const few = ({ pairs }, least) => `too few: ${pairs} of ${least} pairs`;
