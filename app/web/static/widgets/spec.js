// How to have the same again: the request as JSON, for curl and for Python; and what it ran on.

import { html } from "../vendor/ui.js";
import { catalogue } from "../lib/api.js";
import { needsOf, requestOf } from "../lib/draft.js";
import { root } from "../lib/route.js";
import { copy, short } from "../lib/say.js";

export function Spec({ live }) {
  const found = live.found.value;
  const spec = requestOf(found);
  const compact = JSON.stringify(spec);
  const { prompts: [prompt], arms, seeds, ...shared } = spec;
  const { steps, sampler, guidance } = found.arms[0];
  const job = { ...shared, seeds: seeds.slice(0, 1), steps, sampler, guidance };
  if (!needsOf(arms.slice(0, 1), catalogue.value?.methods ?? {}).has("classes")) delete job.classes;
  const texts = {
    "The request": JSON.stringify(spec, null, 1),
    "curl": `curl -s ${location.origin}${root}/v1/comparisons -H 'Content-Type: application/json' \\\n  -d '${compact.replaceAll("'", "'\\''")}'`,
    "Python, one picture of it": `from app.client import Client\n\nwith Client("${location.origin}${root}") as client:\n    job = client.generate(\n        ${python(prompt)},\n${Object.entries(job).map(([name, value]) => `        ${name}=${python(value)},`).join("\n")}\n    )\n    open("picture.png", "wb").write(client.image(job))`,
  };
  const ran = live.cells.map((cell) => cell.value).find((cell) => cell.images.length);
  const facts = ran && [["comparison", found.id], ["job of the first picture", ran.job], ["its SHA-256", ran.images[0].sha256], ["worker", ran.worker_id], ...Object.entries(ran.ran), ...Object.entries(ran.timings ?? {})];
  const kept = live.cells.map((cell) => cell.value).find((cell) => cell.status !== "missing");
  const began = [["init_image", "What every cell starts from"], ["mask", "Where it is made anew, in white"]].filter(([name]) => kept && found[name]);
  return html`<div class="stack">
    ${began.length > 0 && html`<section class="card tight"><h2>The beginning</h2><div class="bar">${began.map(([name, text]) => html`<figure class="tight"><img class="start" src="${root}/v1/jobs/${kept.job}/${name}" alt=${text} width="160" height="160" /><figcaption class="quiet">${text}</figcaption></figure>`)}</div></section>`}
    ${Object.entries(texts).map(([title, text]) => html`<section class="card tight"><div class="bar"><h2>${title}</h2><button type="button" class="push" aria-label="Copy: ${title}" onClick=${() => copy(text, title)}>Copy</button></div><pre tabindex="0" role="region" aria-label=${title}>${text}</pre></section>`)}
    ${facts && html`<section class="card tight"><h2>What ran</h2><div class="scroll" tabindex="0" role="region" aria-label="What ran"><table class="data"><tbody>${facts.map(([name, value]) => html`<tr><th scope="row">${name.replaceAll("_", " ")}</th><td>${short(value)}</td></tr>`)}</tbody></table></div></section>`}
  </div>`;
}

/** A JSON value as Python writes it. */
function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python(one)}`).join(", ")}}`;
  return JSON.stringify(value);
}
