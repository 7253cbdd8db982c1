// Compose: prompts x seeds x arms, what it will cost, and the worked example for a first look.

import { html, signal, useEffect, useState } from "../vendor/ui.js";
import { catalogue, comparison, get, loadCatalogue, post } from "../lib/api.js";
import { FIELDS, draftOf, linked, needsOf, prompts, request, requestInside, requestOf, seeds } from "../lib/draft.js";
import { column } from "../lib/table.js";
import { go, put, query, url } from "../lib/route.js";
import { announce, bytes, copy, count, duration, say } from "../lib/say.js";
import { ArmForm, letter } from "../widgets/arm-form.js";
import { Field, Select } from "../widgets/field.js";
import { QrForm } from "../widgets/qr-form.js";
import { ScoreForm } from "../widgets/score-form.js";
import { StartForm } from "../widgets/start-form.js";
import { useKeys } from "../lib/keys.js";

/** High scales, because that is where the methods part. */
const WORKED = {
  title: "Worked example: three methods, one prompt, the same noise",
  prompts: ["a panda, flat, on a green background"],
  seeds: [1],
  arms: [
    { label: "CFG", guidance: { method: "cfg", scale: 12 } },
    { label: "CFG++", guidance: { method: "cfgpp", scale: 0.6 } },
    { label: "APG", guidance: { method: "apg", scale: 12 } },
  ],
};
/** What the guidance does for a code: with it, and without. */
const CODES = {
  arms: [
    { label: "SRPG", guidance: { method: "srpg" } },
    { label: "without guidance", guidance: { method: "srpg", scanning_scale: 0, refine: { iterations: 0 } } },
  ],
};
const EXAMPLES = ["a red apple, 3d", "grinning face, fluent", "a panda, flat, on a green background", "a blue heart, flat, on an orange background", "a frog, 3d, on a black background"];
const PAUSE_MS = 400;

const draft = signal(null);
const errors = signal([]);
const estimate = signal(null);
const refusals = signal(0);
let timer;
let turn = 0; // an answer to an older question is no answer

const change = (changes) => {
  draft.value = { ...draft.value, ...changes };
  clearTimeout(timer);
  timer = setTimeout(settle, PAUSE_MS);
};

const asked = () => request(draft.value, catalogue.value.methods);

/** When a person pauses: keep the form in the address and ask what it would cost. */
async function settle() {
  const mine = ++turn;
  const spec = asked();
  put({ spec: JSON.stringify(linked(spec)), from: null });
  if (!spec.prompts.length || !spec.seeds.length) {
    estimate.value = null;
    return;
  }
  try {
    const told = await post("/v1/comparisons/estimate", spec);
    if (mine !== turn) return;
    estimate.value = { ...told, texts: spec.prompts };
    errors.value = [];
  } catch (problem) {
    if (mine !== turn) return;
    estimate.value = null;
    errors.value = problem.errors;
  }
}

async function begin() {
  const { models } = await loadCatalogue();
  const from = query("from");
  let spec = null;
  try {
    if (from) spec = requestOf(await get(comparison(from)));
    else if (query("spec")) spec = JSON.parse(query("spec"));
  } catch (problem) {
    say(from ? problem.message : "The link's request could not be read; here is a new one.");
  }
  const usual = { ...WORKED, title: undefined, model: models[0].id, sampler: models[0].sampler, steps: models[0].steps };
  draft.value = draftOf(spec ?? usual);
  const card = models.find((one) => one.id === draft.value.model) ?? models[0];
  draft.value = { ...draft.value, model: card.id, sampler: draft.value.sampler || card.sampler };
  await settle();
}

async function run(spec) {
  clearTimeout(timer);
  turn += 1;
  errors.value = [];
  try {
    const { id } = await post("/v1/comparisons", spec);
    go(`/compare/${id}`);
  } catch (problem) {
    errors.value = problem.errors.length ? problem.errors : [{ pointer: "", detail: problem.message }];
    announce(`Not started: ${problem.message}`);
    refusals.value += 1;
  }
}

export default function Compose() {
  const [failed, fail] = useState(null);
  useEffect(() => {
    document.title = "Compose · Lodestar";
    begin().catch((problem) => fail(problem));
    return () => clearTimeout(timer);
  }, []);
  // After the summary is drawn, or there is nothing to focus.
  useEffect(() => {
    if (refusals.value) document.getElementById("summary")?.focus();
  }, [refusals.value]);
  useKeys({ r: ["Run the comparison", () => draft.value && run(asked())] });
  return html`<div class="stack">
    <section class="card hero" aria-labelledby="hero">
      <div class="tight"><h1 id="hero" tabindex="-1">See what guidance does to a picture</h1>
        <p>CFG, CFG++ and APG draw “${WORKED.prompts[0]}” from the same noise, step by step. Then drag between two of them, and read what differs and why.</p></div>
      <div class="tight"><button class="primary big" onClick=${() => run(WORKED)}>Run the worked example</button>
        <button disabled=${!draft.value} onClick=${() => change(CODES)}>Fill in a QR code</button></div>
    </section>
    ${failed ? html`<p class="note trouble" role="alert">${failed.message}</p>` : draft.value && catalogue.value ? html`<${Form} />` : html`<p class="quiet">Loading the catalogue…</p>`}
  </div>`;
}

function Form() {
  const { methods, samplers, models } = catalogue.value;
  const now = draft.value;
  const model = models.find((one) => one.id === now.model) ?? models[0];
  const fit = new Set(Object.values(model.takes).flat());
  const needs = needsOf(now.arms, methods);
  const arms = now.arms.filter((arm) => methods[arm.guidance.method]);
  const setArms = (next) => change({ arms: next.slice(0, 8) });
  const replace = (index, ...some) => setArms([...arms.slice(0, index), ...some, ...arms.slice(index + 1)]);
  const move = (index, by) => {
    const next = [...arms];
    next.splice(index + by, 0, ...next.splice(index, 1));
    setArms(next);
  };
  const texts = prompts(now.prompts);
  const numbers = seeds(now.seeds);
  const all = errors.value;
  const field = (name, label, attributes) => html`<${Field} label=${label} at="/${name}" errors=${all}>${(shared) => html`
    <input ...${shared} ...${attributes} value=${now[name]} onInput=${(event) => change({ [name]: event.target.value })} />`}<//>`;
  const add = () => {
    const used = new Set(arms.map((arm) => arm.guidance.method));
    const next = ["cfg", "cfgpp", "apg", "none", ...Object.keys(methods)].find((id) => methods[id] && !used.has(id)) ?? "cfg";
    setArms([...arms, needs.has("qr") ? { ...arms.at(-1), label: "" } : { guidance: { method: next } }]);
  };
  return html`<form novalidate class="stack" onSubmit=${(event) => { event.preventDefault(); run(asked()); }}
      onDragOver=${(event) => event.preventDefault()} onDrop=${dropped}>
    ${all.length > 0 && html`<div class="note trouble" id="summary" tabindex="-1" role="group" aria-labelledby="summary-title"><h2 id="summary-title">This cannot run yet</h2>
      <ul>${all.map((error) => html`<li>${where(error.pointer)}${error.detail}</li>`)}</ul></div>`}
    <div class="compose">
      <section class="card stack" aria-labelledby="what"><h2 id="what">Pictures</h2>
        <${Field} label="Prompts, one a line" at="/prompts" errors=${all} hint=${`${count(texts.length, "prompt")}; {a|b} makes two of one${tooLong(texts)}`}>${(attributes) => html`
          <textarea ...${attributes} rows="4" dir="auto" value=${now.prompts} onPaste=${pasted} onInput=${(event) => change({ prompts: event.target.value })}></textarea>`}<//>
        <${Readings} texts=${texts} />
        <div class="pills" role="group" aria-label="Example prompts">${EXAMPLES.map((text) => html`<button type="button" class="plain" onClick=${() => change({ prompts: text })}>${text}</button>`)}
          <label class="file">From a text or CSV file<input type="file" accept=".txt,.csv,text/plain,text/csv" onChange=${(event) => prompted(event.target)} /></label></div>
        <${Field} label="Seeds" at="/seeds" errors=${numbers ? all : [{ pointer: "/seeds", detail: "Write whole numbers: 1, 2, 5-8." }]} hint="The same in every arm: each row starts from the same noise, so what differs is the method.">${(attributes) => html`
          <div class="bar"><input ...${attributes} value=${now.seeds} style=${{ flex: "1 1 120px", width: "auto" }} onInput=${(event) => change({ seeds: event.target.value })} />
          <button type="button" onClick=${() => change({ seeds: Array.from(crypto.getRandomValues(new Uint16Array(Math.max(1, numbers?.length ?? 1)))).join(", ") })}>Draw new ones</button></div>`}<//>
        ${field("negative_prompt", "Negative prompt", { autocomplete: "off", dir: "auto" })}
        <div class="fields">
          <${Field} label="Model" at="/model" errors=${all}>${(attributes) => html`<${Select} attributes=${attributes} value=${now.model} options=${models.map((one) => [one.id, one.title || one.id])}
            onChange=${(id) => { const card = models.find((one) => one.id === id); change({ model: id, sampler: card.sampler, steps: card.steps, width: "", height: "" }); }} />`}<//>
          <${Field} label="Sampler" at="/sampler" errors=${all}>${(attributes) => html`<${Select} attributes=${attributes} value=${now.sampler} options=${samplers.map((one) => [one.id, fit.has(one.id) ? one.title : `${one.title} (not with this model)`, !fit.has(one.id)])} onChange=${(sampler) => change({ sampler })} />`}<//>
          ${field("steps", "Steps", { type: "number", min: 1, max: 200 })}
          ${!needs.has("qr") && field("width", "Width, px", { type: "number", step: model.factor, placeholder: model.width })}
          ${!needs.has("qr") && field("height", "Height, px", { type: "number", step: model.factor, placeholder: model.height })}
        </div>
        ${needs.has("classes") && html`<${Field} label="Classes to choose among, separated by commas" at="/classes" errors=${all}>${(attributes) => html`<input ...${attributes} value=${now.classes} placeholder="a green apple, a pear" onInput=${(event) => change({ classes: event.target.value })} />`}<//>`}
        ${model.extras.includes("embedded") && field("embedded_scale", "Scale built into the model", { type: "number", min: 0, step: "any", placeholder: model.embedded_scale })}
        ${needs.has("qr") ? html`<${QrForm} qr=${now.qr} set=${(qr) => change({ qr })} model=${model} errors=${all} />` : html`<${StartForm} now=${now} change=${change} errors=${all} />`}
        <${ScoreForm} now=${now} change=${change} errors=${all} />
        <div><label for="open">Open a picture made here, or a request as JSON: it comes back into the form</label>
          <input id="open" type="file" accept="image/png,application/json" onChange=${(event) => open(event.target.files[0])} /></div>
      </section>
      <section class="stack" aria-labelledby="how"><div class="bar"><h2 id="how">Arms</h2><button type="button" class="push" onClick=${add} disabled=${arms.length >= 8}>Add an arm</button></div>
        <div class="arms">${arms.map((arm, index) => html`<${ArmForm} key=${index} ...${{ arm, index, methods, samplers, errors: all }} count=${arms.length} model=${model.id}
          change=${(next) => replace(index, next)} more=${(some) => replace(index, ...some)} move=${(by) => move(index, by)} remove=${() => replace(index)} />`)}</div>
      </section>
    </div>
    <${Cost} arms=${arms} setArms=${setArms} texts=${texts} numbers=${numbers} />
  </form>`;
}

/** How the server says that the model reads a prompt; undefined where it has not said. */
const reading = (text) => estimate.value?.prompts?.[estimate.value.texts.indexOf(text)];
const over = (told) => told.tokens > told.at_once;

function tooLong(texts) {
  const number = texts.filter((text) => reading(text) && over(reading(text))).length;
  return number ? `; ${number} longer than the model reads at once` : "";
}

/** A counter for each prompt, and what becomes of one that is too long. */
function Readings({ texts }) {
  const told = texts.map((text) => [text, reading(text)]).filter(([, one]) => one);
  if (!told.length) return null;
  return html`<div class="readings" tabindex="0" role="region" aria-label="How long each prompt is"><ul class="plain">${told.map(([text, one]) => html`<li class=${one.cut ? "bad" : "quiet"}>
    <span class="text" dir="auto">${text}</span> <span class="num">${one.tokens} of ${one.at_once} tokens</span>
    ${over(one) && html`<b>${one.cut ? `Too long: “${one.cut}” is not read.` : `Too long for one: read in ${one.pieces} pieces.`}</b>`}</li>`)}</ul></div>`;
}

function Cost({ arms, setArms, texts, numbers }) {
  const known = estimate.value;
  const equalise = () => setArms(arms.map((arm, index) => ({ ...arm, steps: known.arms[index].matched_steps })));
  const spread = known && known.arms.map((arm, index) => `${letter(index)} ${arm.nfe}`).join(", ");
  return html`<div class="card bar cost">
    <button class="primary" type="submit">Run ${known ? count(known.pictures, "picture") : "the comparison"}</button>
    <div><p class="num">${known ? html`${count(texts.length, "prompt")} × ${count(numbers?.length ?? 0, "seed")} × ${count(arms.length, "arm")}; network evaluations per picture: ${spread}${known.seconds !== null ? `; about ${duration(known.seconds)}` : ""}; about ${bytes(known.disk.bytes)} on disk${known.disk.measured ? "" : ", were they not compressed"}` : "Nothing to run yet."}</p>
      ${known && !known.compute_matched && html`<p class="quiet">Not compute-matched: arms with more evaluations have an advantage.</p>`}</div>
    ${known && !known.compute_matched && known.arms.some((arm, index) => arm.matched_steps !== known.arms[index].steps) && html`<button type="button" onClick=${equalise}>Equalise by steps</button>`}
    <button type="button" class="push" onClick=${() => { clearTimeout(timer); settle(); copy(url.peek().href, "The link"); }}>Copy link</button>
  </div>`;
}

function where(pointer) {
  const arm = /^\/arms\/(\d+)/.exec(pointer);
  return arm ? `Arm ${letter(Number(arm[1]))}: ` : "";
}

function dropped(event) {
  event.preventDefault();
  open(event.dataTransfer.files[0]);
}

/** Take the prompts of a file over: lines, or the column of a table. */
async function prompted(input) {
  const [file] = input.files;
  const text = await file?.text().catch(() => "");
  input.value = "";
  if (!text?.trim()) return say("This file holds no text.");
  const found = column(text, /\.csv$/i.test(file.name) || file.type === "text/csv") ?? text.trim();
  change({ prompts: found });
  return say(`${count(prompts(found).length, "prompt")} taken from ${file.name}.`);
}

/** A pasted table with a column of prompts becomes its prompts; all else is pasted as it is. */
function pasted(event) {
  const text = event.clipboardData.getData("text/plain");
  const found = text.includes("\n") && column(text);
  if (!found) return;
  event.preventDefault();
  const { value, selectionStart, selectionEnd } = event.target;
  change({ prompts: value.slice(0, selectionStart) + found + value.slice(selectionEnd) });
}

/** The request in a file: a picture's own, or one that was copied from the Spec view. */
async function requestOfFile(file) {
  const bytes = await file.arrayBuffer().catch(() => new ArrayBuffer(0));
  const inside = requestInside(bytes);
  if (inside) return inside;
  try {
    const told = JSON.parse(new TextDecoder().decode(bytes));
    return told.prompts || told.prompt ? told : null;
  } catch {
    return null;
  }
}

/** Take a file's request over into the form. */
async function open(file) {
  const spec = file && (await requestOfFile(file));
  if (!spec) {
    say("This file holds no request of this service.");
    return;
  }
  const taken = draftOf(spec);
  change({ ...taken, ...Object.fromEntries(FIELDS.map((name) => [name, taken[name] ?? ""])) });
  say("The request is in the form.");
}
