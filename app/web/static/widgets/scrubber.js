// Two cells while they were made: their previews after the same step, moved together with the plots' cursor.

import { html } from "../vendor/ui.js";
import { put, query, root } from "../lib/route.js";
import { short } from "../lib/say.js";
import { cursor } from "./chart.js";
import { Picture, View } from "./view.js";

/** The steps of which a cell has something to show, from 0; the last is that of the finished picture. */
function stepsOf(cell, arm) {
  const kept = [...(cell.images[0]?.previews ?? cell.course.seen)].sort((a, b) => a - b);
  return cell.images.length ? [...kept, lastOf(kept, arm)] : kept;
}

/** A code or an edit takes more steps than its sampler has. */
const lastOf = (kept, arm) => Math.max(arm.steps - 1, (kept.at(-1) ?? -1) + 1);

/** `a`, `b`: cells; `arms`: their arms; the step is in the address, or under the plots' cursor; `beat` as in `Differs`. */
export function Scrubber({ a, b, arms, width, height }) {
  const [one, other] = [a, b].map((cell) => ({ cell, arm: arms[cell.arm], steps: stepsOf(cell, arms[cell.arm]) }));
  const stops = [...new Set([...one.steps, ...other.steps])].sort((x, y) => x - y);
  if (stops.length < 2) return null;
  const most = stops.at(-1) + 1;
  const chosen = Number(query("step", String(most))) - 1;
  const wanted = cursor.value === null ? chosen : Math.round(cursor.value * (most - 1));
  const at = stops.findLastIndex((step) => step <= wanted);
  const index = Math.max(0, at);
  const set = (next) => {
    cursor.value = null;
    put({ step: stops[next] + 1 === most ? null : stops[next] + 1 });
  };
  const said = `after step ${stops[index] + 1} of ${most}`;
  return html`<section class="card tight" aria-labelledby="scrub"><h2 id="scrub">Step by step</h2>
    <div class="surround small">${[["A", one], ["B", other]].map(([role, { cell, arm, steps }]) => html`<${Frame} ...${{ role, cell, arm, steps, width, height }} at=${stops[index]} />`)}</div>
    <label for="step">Step of both</label>
    <input id="step" type="range" min="0" max=${stops.length - 1} step="1" value=${index} aria-valuetext=${said} onInput=${(event) => set(Number(event.target.value))} />
    <p class="quiet">What each method would end with, ${said}. The cursor of the plots moves this too.</p>
  </section>`;
}

function Frame({ role, cell, arm, steps, at, width, height }) {
  const step = steps.findLast((known) => known <= at) ?? steps[0];
  const name = `${role} ${arm.label}`;
  const sigma = cell.course.rows.get(step)?.sigma;
  const whole = cell.images.length > 0 && step === steps.at(-1);
  const note = step === undefined ? "no preview yet" : `${name}, step ${step + 1}${sigma === undefined || sigma === null ? "" : `, sigma ${short(sigma)}`}`;
  return html`<figure><${View} width=${width} height=${height}>
    ${whole ? html`<${Picture} image=${cell.images[0]} alt="${name}, finished" />` : step !== undefined && html`<img class="sharp" src="${root}/v1/jobs/${cell.job}/images/0/preview?step=${step}" alt="${name} after step ${step + 1}" draggable=${false} />`}
  <//><figcaption class="num">${note}</figcaption></figure>`;
}
