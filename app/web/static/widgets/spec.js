// How to have the same again: the request as JSON, for curl and for Python; and what it ran on.

import { html } from "../vendor/ui.js";
import { root } from "../lib/route.js";
import { requestOf } from "../lib/draft.js";
import { copy, short } from "../lib/say.js";

export function Spec({ live }) {
  const found = live.found.value;
  const spec = requestOf(found);
  const compact = JSON.stringify(spec);
  const job = { model: found.model, prompt: found.prompts[0], seeds: found.seeds.slice(0, 1), steps: found.arms[0].steps, sampler: found.arms[0].sampler, guidance: found.arms[0].guidance };
  const texts = {
    "The request": JSON.stringify(spec, null, 1),
    "curl": `curl -s ${location.origin}${root}/v1/comparisons -H 'Content-Type: application/json' \\\n  -d '${compact.replaceAll("'", "'\\''")}'`,
    "Python, one picture of it": `from app.client import Client\n\nwith Client("${location.origin}${root}") as client:\n    job = client.generate(\n        ${python(job.prompt)},\n${Object.entries(job).filter(([name]) => name !== "prompt").map(([name, value]) => `        ${name}=${python(value)},`).join("\n")}\n    )\n    open("picture.png", "wb").write(client.image(job))`,
  };
  const ran = live.cells.map((cell) => cell.value).find((cell) => cell.images.length);
  const facts = ran && [["comparison", found.id], ["job of the first picture", ran.job], ["its SHA-256", ran.images[0].sha256], ["worker", ran.worker_id], ...Object.entries(ran.ran), ...Object.entries(ran.timings ?? {})];
  return html`<div class="stack">
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
