// Everything that was compared here: search it, open it, fork it, delete it.

import { html, signal, useEffect } from "../vendor/ui.js";
import { call, comparison, get } from "../lib/api.js";
import { local, put, query, root } from "../lib/route.js";
import { announce, count, say } from "../lib/say.js";

const PAGE = 24;
const list = signal(null);
const problem = signal(null);
const hidden = signal(new Set());

async function load(search, after, wanted = () => true) {
  const parameters = new URLSearchParams({ limit: PAGE, search, ...(after ? { after } : {}) });
  const told = await get(`/v1/comparisons?${parameters}`);
  if (!wanted()) return;
  list.value = { ...told, data: after ? [...list.value.data, ...told.data] : told.data };
  announce(count(list.value.data.length, "comparison"));
}

/** Hide at once, delete when nobody has undone it. */
function remove(one) {
  const hide = (on) => {
    const next = new Set(hidden.value);
    on ? next.add(one.id) : next.delete(one.id);
    hidden.value = next;
  };
  // Who is at the keyboard goes on where they were: the button that they pressed is gone.
  const focus = (selector) => requestAnimationFrame(() => setTimeout(() => document.querySelector(selector)?.focus()));
  hide(true);
  say(`“${one.title}” will be deleted with its pictures and votes.`, {
    label: "Undo",
    act: () => { hide(false); focus(`[data-id="${one.id}"] button`); },
    otherwise: () => call(comparison(one.id), { method: "DELETE" }).catch((error) => { hide(false); say(error.message); }),
  });
  focus("#toast button");
}

export default function Library() {
  const search = query("search");
  useEffect(() => {
    document.title = "Library · Lodestar";
    problem.value = null;
    let wanted = true;
    const timer = setTimeout(() => load(search, null, () => wanted).catch((error) => (problem.value = error)), list.value ? 250 : 0);
    return () => { wanted = false; clearTimeout(timer); };
  }, [search]);
  const shown = list.value?.data.filter((one) => !hidden.value.has(one.id)) ?? [];
  return html`<div class="stack">
    <div class="bar"><h1 tabindex="-1">Library</h1><span class="push"><label for="search">Search title, prompt, model, method</label><input id="search" type="search" value=${search} onInput=${(event) => put({ search: event.target.value })} /></span></div>
    ${problem.value && html`<p class="note trouble" role="alert">${problem.value.message}</p>`}
    ${list.value && !shown.length && html`<div class="card tight"><p>${search ? "Nothing matches." : "Nothing was compared yet."}</p><p><a class="button primary" href="${root}/">Run the worked example</a></p></div>`}
    <ul class="plain shelf">${shown.map((one) => html`<li key=${one.id} data-id=${one.id} class="card tight">
      <a href="${root}/compare/${one.id}" class="strip" tabindex="-1" aria-hidden="true">${one.thumbnails.slice(0, 4).map((url) => html`<img src=${local(url)} alt="" width="80" height="80" loading="lazy" decoding="async" />`)}</a>
      <h2><a href="${root}/compare/${one.id}">${one.title}</a></h2>
      <p class="quiet">${one.arms.map((arm) => arm.label).join(", ")}</p>
      <p class="quiet num">${count(one.prompts.length, "prompt")}, ${count(one.seeds.length, "seed")}, ${one.model}; ${Object.entries(one.counts).map(([name, number]) => `${number} ${name}`).join(", ")}; <time datetime=${one.created_at}>${new Date(one.created_at).toLocaleString()}</time></p>
      <div class="bar"><a class="button" href="${root}/?from=${one.id}" aria-label="Fork ${one.title}">Fork</a><a class="button" href="${root}/compare/${one.id}/results" aria-label="Results of ${one.title}">Results</a>
        <button type="button" class="plain push" aria-label="Delete ${one.title}" onClick=${() => remove(one)}>Delete</button></div></li>`)}</ul>
    ${list.value?.has_more && html`<button type="button" onClick=${() => load(search, list.value.last_id).catch((error) => say(error.message))}>Show more</button>`}
  </div>`;
}
