// Everything that was made here, comparisons and single jobs: search it, open it, fork it, delete it.

import { html, signal, useEffect } from "../vendor/ui.js";
import { call, comparison, get } from "../lib/api.js";
import { linked } from "../lib/draft.js";
import { local, put, query, root } from "../lib/route.js";
import { announce, count, say } from "../lib/say.js";

const PAGE = 24;
const KINDS = {
  comparisons: { what: "comparison", filter: {}, Item: Comparison },
  jobs: { what: "job", filter: { of: "single" }, Item: Job },
};
const list = signal(null);
const problem = signal(null);
const hidden = signal(new Set());

const kind = () => (query("of") === "jobs" ? "jobs" : "comparisons");

/** The beginning of a day of this place, `later` days on, as the server reads it; nothing where none is chosen. */
function dayOf(text, later = 0) {
  const [year, month, day] = text.split("-").map(Number);
  const begin = new Date(year, month - 1, day + later);
  return Number.isNaN(begin.getTime()) ? "" : begin.toISOString();
}

const asked = () => ({ search: query("search"), created_from: dayOf(query("since")), created_before: dayOf(query("until"), 1) });

async function load(of, filters, after, wanted = () => true) {
  const given = Object.entries({ limit: PAGE, ...KINDS[of].filter, ...filters, after }).filter(([, value]) => value);
  const told = await get(`/v1/${of}?${new URLSearchParams(given)}`);
  if (!wanted()) return;
  list.value = { ...told, of, data: after ? [...list.value.data, ...told.data] : told.data };
  announce(count(list.value.data.length, KINDS[of].what));
}

/** Hide at once, delete when nobody has undone it. */
function remove(one, name, path) {
  const hide = (on) => {
    const next = new Set(hidden.value);
    on ? next.add(one.id) : next.delete(one.id);
    hidden.value = next;
  };
  // Who is at the keyboard goes on where they were: the button that they pressed is gone.
  const focus = (selector) => requestAnimationFrame(() => setTimeout(() => document.querySelector(selector)?.focus()));
  hide(true);
  say(`“${name}” will be deleted with all that belongs to it.`, {
    label: "Undo",
    act: () => { hide(false); focus(`[data-id="${one.id}"] button`); },
    otherwise: () => call(path, { method: "DELETE" }).catch((error) => { hide(false); say(error.message); }),
  });
  focus("#toast button");
}

export default function Library() {
  const of = kind();
  const filters = asked();
  const filtered = Boolean(filters.search || filters.created_from || filters.created_before);
  const key = JSON.stringify([of, filters]);
  useEffect(() => {
    document.title = "Library · Lodestar";
    problem.value = null;
    let wanted = true;
    const timer = setTimeout(() => load(of, filters, null, () => wanted).catch((error) => (problem.value = error)), list.value?.of === of ? 250 : 0);
    return () => { wanted = false; clearTimeout(timer); };
  }, [key]);
  const there = list.value?.of === of ? list.value : null;
  const shown = there?.data.filter((one) => !hidden.value.has(one.id)) ?? [];
  const { what, Item } = KINDS[of];
  const tab = (name, text) => html`<a href="${root}/library${name === "jobs" ? "?of=jobs" : ""}" aria-current=${of === name ? "page" : null}>${text}</a>`;
  const day = (name, label) => html`<span><label for=${name}>${label}</label><input id=${name} type="date" value=${query(name)} onInput=${(event) => put({ [name]: event.target.value })} /></span>`;
  return html`<div class="stack">
    <div class="bar end"><h1 tabindex="-1">Library</h1><span class="push"><label for="search">Search title, prompt, model, method</label><input id="search" type="search" value=${query("search")} onInput=${(event) => put({ search: event.target.value })} /></span>
      ${day("since", "Made on this day or later")}${day("until", "And not after")}</div>
    <nav class="tabs" aria-label="What is shown">${tab("comparisons", "Comparisons")}${tab("jobs", "Single jobs")}</nav>
    ${problem.value && html`<p class="note trouble" role="alert">${problem.value.message}</p>`}
    ${there && !shown.length && !there.has_more && html`<div class="card tight"><p>${filtered ? "Nothing matches." : of === "jobs" ? "No single job is kept. What the API and batches make is shown here." : "Nothing was compared yet."}</p>
      <p><a class="button primary" href="${root}/">Run the worked example</a></p></div>`}
    <ul class="plain shelf">${shown.map((one) => html`<li key=${one.id} data-id=${one.id} class="card tight"><${Item} one=${one} /></li>`)}</ul>
    ${there?.has_more && html`<button type="button" onClick=${() => load(of, filters, there.last_id).catch((error) => say(error.message))}>Show more ${what}s</button>`}
  </div>`;
}

const Picture = ({ url }) => html`<img src=${local(url)} alt="" width="80" height="80" loading="lazy" decoding="async" />`;
const When = ({ at }) => html`<time datetime=${at}>${new Date(at).toLocaleString()}</time>`;

function Comparison({ one }) {
  const page = `${root}/compare/${one.id}`;
  return html`<a href=${page} class="strip" tabindex="-1" aria-hidden="true">${one.thumbnails.slice(0, 4).map((url) => html`<${Picture} url=${url} />`)}</a>
    <h2><a href=${page}>${one.title}</a></h2>
    <p class="quiet">${one.arms.map((arm) => arm.label).join(", ")}</p>
    <p class="quiet num">${count(one.prompts.length, "prompt")}, ${count(one.seeds.length, "seed")}, ${one.model}; ${Object.entries(one.counts).map(([name, number]) => `${number} ${name}`).join(", ")}; <${When} at=${one.created_at} /></p>
    <div class="bar"><a class="button" href="${root}/?from=${one.id}" aria-label="Fork ${one.title}">Fork</a><a class="button" href="${page}/results" aria-label="Results of ${one.title}">Results</a>
      <button type="button" class="plain push" aria-label="Delete ${one.title}" onClick=${() => remove(one, one.title, comparison(one.id))}>Delete</button></div>`;
}

function Job({ one }) {
  const ran = one.resolved;
  const name = ran.prompt || "(empty prompt)";
  const open = ["queued", "starting", "processing"].includes(one.status);
  const result = one.images[0]?.url ?? one.urls.self;
  const form = `${root}/?spec=${encodeURIComponent(JSON.stringify(linked(ran)))}`;
  return html`<a href=${local(result)} class="strip" tabindex="-1" aria-hidden="true">${one.images.slice(0, 4).map(({ url }) => html`<${Picture} url=${url} />`)}</a>
    <h2 dir="auto"><a href=${local(result)}>${name}</a></h2>
    <p class="quiet">${ran.guidance.method}${ran.guidance.scale === undefined ? "" : ` ${ran.guidance.scale}`}, ${ran.model}, ${count(ran.steps, "step")}, ${count(ran.seeds.length, "picture")}</p>
    <p class="quiet num">${one.status}${open ? `, step ${one.progress.step} of ${one.progress.total || "–"}` : ""}; <${When} at=${one.created_at} /></p>
    ${one.error && html`<p class="bad">${one.error.message}</p>`}
    <div class="bar"><a class="button" href=${form} aria-label="Compare ${name} with other methods">Compare</a><a class="button" href=${local(one.urls.self)} aria-label="Record of ${name}">Record</a>
      <button type="button" class="plain push" aria-label="Delete ${name}" disabled=${open} onClick=${() => remove(one, name, `/v1/jobs/${one.id}`)}>Delete</button></div>`;
}
