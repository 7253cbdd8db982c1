// One comparison: overview, pair, metrics, trajectories, spec. What is looked at is in the address.

import { Fragment, computed, html, useComputed, useEffect, useMemo, useRef, useState } from "../vendor/ui.js";
import { call, comparison, loadCatalogue, post } from "../lib/api.js";
import { requestOf } from "../lib/draft.js";
import { useKeys } from "../lib/keys.js";
import { Live } from "../lib/live.js";
import { changed, go, put, query, root, url } from "../lib/route.js";
import { announce, copy, count, duration, say } from "../lib/say.js";
import { look, panBy, read, written, zoom, zoomBy } from "../lib/zoom.js";
import { Calibration } from "../widgets/calibration.js";
import { CodeReport } from "../widgets/code.js";
import { Differs } from "../widgets/differs.js";
import { Field, Select } from "../widgets/field.js";
import { Columns, Grid } from "../widgets/grid.js";
import { Metrics } from "../widgets/metrics.js";
import { MODES, Pair } from "../widgets/pair.js";
import { Scrubber } from "../widgets/scrubber.js";
import { Spec } from "../widgets/spec.js";
import { Trajectory } from "../widgets/trajectory.js";
import { ZoomBar } from "../widgets/view.js";

const VIEWS = { overview: "Overview", pair: "Pair", metrics: "Metrics", steps: "Trajectories", match: "Match scales", spec: "Spec" };
const ZOOM_PAUSE_MS = 250;

export default function Compare({ id }) {
  const live = useMemo(() => new Live(id), [id]);
  useEffect(() => () => live.end(), [live]);
  useEffect(() => void loadCatalogue().catch((problem) => say(problem.message)), []);
  useEffect(() => {
    read(query("z"));
    let timer;
    const stop = zoom.subscribe((now) => {
      clearTimeout(timer);
      timer = setTimeout(() => put({ z: written(now) }), ZOOM_PAUSE_MS);
    });
    return () => { stop(); clearTimeout(timer); };
  }, [id]);
  if (live.problem.value) return html`<div class="stack"><h1 tabindex="-1">No comparison here</h1><p>${live.problem.value.message}</p><p><a href="${root}/library">Look in the library</a> or <a href="${root}/">make a new one</a>.</p></div>`;
  if (!live.found.value) return html`<h1 tabindex="-1">Loading the comparison</h1>`;
  return html`<${Shown} live=${live} />`;
}

/** The pair that is looked at, from the address; `a` and `b` are never the same arm. */
function chosenIn(found) {
  const whole = (name, most, usual) => Math.min(Math.max(0, Number(query(name, String(usual))) || 0), most);
  const [prompt, seed] = [whole("p", found.prompts.length - 1, 0), whole("s", found.seeds.length - 1, 0)];
  const a = whole("a", found.arms.length - 1, 0);
  let b = whole("b", found.arms.length - 1, Math.min(1, found.arms.length - 1));
  if (a === b) b = a === 0 ? Math.min(1, found.arms.length - 1) : 0;
  return { prompt, seed, a, b };
}

function choose(found, changes) {
  const before = chosenIn(found);
  const next = { ...before, ...changes };
  if (next.a === next.b) {
    if ("a" in changes) next.b = before.a;
    else next.a = before.b;
  }
  put({ p: next.prompt || null, s: next.seed || null, a: next.a, b: next.b });
}

function Shown({ live }) {
  const found = live.found.value;
  const chosen = useMemo(() => computed(() => chosenIn(live.found.value)), [live]);
  const view = VIEWS[query("view")] ? query("view") : "overview";
  const show = (name) => put({ view: name === "overview" ? null : name }, true);
  const turn = (name, by, most) => choose(found, { [name]: (chosen.value[name] + by + most) % most });
  const pick = (name) => () => {
    const index = document.querySelector(".cell:focus-within, .cell:hover")?.dataset.cell;
    const cell = index && live.cells[index].peek();
    if (cell?.images.length) choose(found, { prompt: cell.prompt, seed: cell.seed, [name]: cell.arm });
  };
  const pan = (dx, dy) => ["", () => panBy(dx, dy)];
  const modes = Object.keys(MODES);
  useEffect(() => {
    document.title = `${found.title} · Lodestar`;
  }, [found.title]);
  useKeys({
    g: ["Overview with the grid", () => show("overview")], i: ["Pair", () => show("pair")], t: ["Trajectories", () => show("steps")],
    a: ["The picture under pointer or focus as A", pick("a")], b: ["The same as B", pick("b")], Enter: ["Pair", () => show("pair")],
    m: ["Next way to compare", () => put({ mode: modes[(modes.indexOf(query("mode", "slider")) + 1) % modes.length] })],
    x: ["Swap A and B", () => put({ a: chosen.value.b, b: chosen.value.a })],
    "[": ["Seed before", () => turn("seed", -1, found.seeds.length)], "]": ["Next seed", () => turn("seed", 1, found.seeds.length)],
    "{": ["Prompt before", () => turn("prompt", -1, found.prompts.length)], "}": ["Next prompt", () => turn("prompt", 1, found.prompts.length)],
    "+": ["Zoom in", () => zoomBy(1.5)], "-": ["Zoom out", () => zoomBy(1 / 1.5)], 0: ["Whole pictures", () => look({ z: 1 })],
    ArrowLeft: pan(-0.1, 0), ArrowRight: pan(0.1, 0), ArrowUp: pan(0, -0.1), ArrowDown: pan(0, 0.1),
    v: ["Vote", () => go(`/compare/${found.id}/vote`)], e: ["Export", () => { const menu = document.getElementById("export"); menu.open = true; menu.querySelector("summary").focus(); }],
    "/": ["Filter rows", () => document.getElementById("filter")?.focus()], Escape: ["Back to the overview", () => show("overview")],
  });
  return html`<div class="stack">
    <${Top} live=${live} />
    <${Tabs} id=${found.id} view=${view} />
    ${view === "overview" && html`<${Overview} live=${live} chosen=${chosen} />`}
    ${view === "pair" && html`<${PairView} live=${live} chosen=${chosen} />`}
    ${view === "metrics" && html`<${Metrics} live=${live} />`}
    ${view === "steps" && html`<${Steps} live=${live} chosen=${chosen} />`}
    ${view === "match" && html`<${Calibration} live=${live} />`}
    ${view === "spec" && html`<${Spec} live=${live} />`}
  </div>`;
}

/** Their addresses hold all that this one does, so they follow its every change. */
function Tabs({ id, view }) {
  url.value;
  return html`<nav class="tabs" aria-label="Views of this comparison">${Object.entries(VIEWS).map(([name, text]) => html`<a href=${changed({ view: name === "overview" ? null : name }).href} aria-current=${name === view ? "page" : null}>${text}</a>`)}
    <a href="${root}/compare/${id}/vote">Vote</a><a href="${root}/compare/${id}/results">Results</a></nav>`;
}

function Top({ live }) {
  const { id, title, cells, arms, prompts, seeds } = live.found.value;
  const counts = live.counts.value;
  const total = live.cells.length;
  const made = counts.succeeded ?? 0;
  const lost = (counts.failed ?? 0) + (counts.canceled ?? 0) + (counts.expired ?? 0) + (counts.missing ?? 0);
  const state = `${made} of ${count(total, "picture")}${lost ? `, ${lost} not made` : ""}${live.open.value ? "" : made === total ? ", done" : ""}`;
  useEffect(() => announce(state), [state]);
  const act = (what) => () => live.act(what).catch((problem) => say(problem.message));
  const size = `${count(made, "picture")}`;
  return html`<header class="tight">
    <div class="bar"><${Title} live=${live} title=${title} /></div>
    <div class="bar"><p class="num" id="state">${state}</p>${live.open.value && html`<${Left} live=${live} />`}
      ${!live.connected.value && live.open.value && html`<p class="note trouble" role="alert">The connection is lost; trying again. Nothing is lost.</p>`}
      <span class="push bar">
        ${live.open.value && html`<button type="button" onClick=${act("cancel")}>Cancel</button>`}
        ${!live.open.value && lost > 0 && html`<button type="button" onClick=${act("retry")}>Make ${lost} again</button>`}
        <a class="button" href="${root}/?from=${id}">Fork</a>
        <details class="menu" id="export"><summary class="button">Export</summary><div class="sheet">
          ${[["zip", "Everything as zip"], ["html", "Report, one HTML file"], ["png", "Contact sheet, PNG"]].map(([kind, text]) => html`<a href="${root}${comparison(id)}/export.${kind}" download>${text} (${size})</a>`)}
          <a href="${root}${comparison(id)}/export.csv" download>Scores, CSV (${count(total, "row")})</a>
          <a href="${root}${comparison(id)}/export.csv?of=traces" download>Traces, CSV</a>
          <a href="${root}${comparison(id)}/export.csv?of=votes" download>Votes, CSV</a>
          <a href="${root}${comparison(id)}/export.json" download>All numbers, JSON</a></div></details>
        <button type="button" class="primary" onClick=${() => copy(url.peek().href, "The link")}>Share</button>
      </span></div>
    <${Matched} live=${live} />
  </header>`;
}

function Left({ live }) {
  live.beat.value;
  const seconds = live.left();
  return html`<${Fragment}><progress class="whole" max=${live.cells.length} value=${live.counts.value.succeeded ?? 0} aria-label="Pictures made"></progress>
    ${seconds !== null && html`<span class="quiet num">about ${duration(seconds)} left</span>`}<//>`;
}

function Title({ live, title }) {
  const [editing, edit] = useState(null);
  const opener = useRef();
  useEffect(() => {
    if (editing === false) opener.current.focus();
  }, [editing]);
  if (!editing) return html`<${Fragment}><h1 tabindex="-1">${title}</h1><button type="button" class="plain" ref=${opener} onClick=${() => edit(true)}>Rename</button><//>`;
  const save = async (event) => {
    event.preventDefault();
    const name = new FormData(event.target).get("title").trim();
    edit(false);
    if (!name || name === title) return;
    try {
      await call(comparison(live.id), { method: "PATCH", body: { title: name } });
      live.found.value = { ...live.found.value, title: name };
    } catch (problem) {
      say(problem.message);
    }
  };
  return html`<form class="bar" onSubmit=${save}><h1 class="sr" tabindex="-1">${title}</h1><label class="sr" for="title">Title</label>
    <input id="title" name="title" maxlength="200" value=${title} ref=${(input) => input?.focus()} onKeyDown=${(event) => event.key === "Escape" && edit(false)} /><button>Save</button></form>`;
}

/** Whether the arms cost the same, and a way to make them. */
function Matched({ live }) {
  const found = live.found.value;
  const costs = useComputed(() => costsOf(live).join()).value.split(",").map(Number);
  if (costs.some((cost) => !cost) || new Set(costs).size < 2) return null;
  const equalise = async () => {
    const spec = requestOf(found);
    try {
      const { arms } = await post("/v1/comparisons/estimate", spec);
      const again = spec.arms.map(({ label, ...arm }, index) => ({ ...arm, label: `${label.slice(0, 44)} (${arms[index].matched_steps} steps)`, steps: arms[index].matched_steps }));
      const { id } = await post("/v1/comparisons", { ...spec, title: `${found.title.slice(0, 180)}, compute-matched`, arms: again });
      go(`/compare/${id}`);
    } catch (problem) {
      say(problem.message);
    }
  };
  return html`<div class="note bar"><p>Not compute-matched: ${found.arms.map((arm, index) => `${arm.label} ${costs[index]}`).join(", ")} evaluations per picture.</p><button type="button" class="push" onClick=${equalise}>Equalise by steps</button></div>`;
}

/** Evaluations per picture of each arm, at most; 0 where none is made. */
function costsOf(live) {
  const costs = live.found.value.arms.map(() => 0);
  for (const { value: { arm, nfe } } of live.cells) costs[arm] = Math.max(costs[arm], (nfe?.model ?? 0) + (nfe?.weak ?? 0));
  return costs;
}

function Overview({ live, chosen }) {
  const found = live.found.value;
  const many = found.prompts.length * found.seeds.length > 1;
  const size = query("size", many ? "m" : "l");
  return html`<div class="stack">
    <div class="bar tools">
      ${many && html`<label for="filter">Rows</label><input id="filter" placeholder="words, failed or disputed" value=${query("find")} onInput=${(event) => put({ find: event.target.value })} />`}
      <fieldset class="pills"><legend class="sr">Size of the pictures</legend>${[["s", "Small"], ["m", "Medium"], ["l", "Large"]].map(([name, text]) => html`<label><input type="radio" name="size" checked=${name === size} onChange=${() => put({ size: name })} />${text}</label>`)}</fieldset>
      ${found.arms.length > 1 && html`<${Columns} arms=${found.arms} />`}
      <span class="push"><${ZoomBar} /></span>
    </div>
    <${Grid} live=${live} chosen=${chosen} choose=${(changes) => choose(found, changes)} size=${size} filter=${query("find")} />
    <${PairView} live=${live} chosen=${chosen} brief=${true} />
  </div>`;
}

function Steps({ live, chosen }) {
  const { arms, width, height } = live.found.value;
  const { prompt, seed, ...pair } = chosen.value;
  const [a, b] = [pair.a, pair.b].map((arm) => live.at(prompt, seed, arm).value);
  const beat = live.beat.value;
  return html`<div class="stack">${arms.length > 1 && html`<${Scrubber} ...${{ a, b, arms, width, height, beat }} />`}<${Trajectory} live=${live} /></div>`;
}

function PairView({ live, brief = false, ...of }) {
  const chosen = of.chosen.value;
  const beat = live.beat.value;
  const found = live.found.value;
  const { prompts, seeds, arms, width, height } = found;
  const row = { prompt: chosen.prompt, seed: chosen.seed };
  const [a, b] = [chosen.a, chosen.b].map((arm) => live.at(chosen.prompt, chosen.seed, arm).value);
  const named = (cell) => ({ image: cell.images[0], name: arms[cell.arm].label, alt: `${arms[cell.arm].label}, ${prompts[cell.prompt]}, seed ${seeds[cell.seed]}` });
  const options = arms.map((arm, index) => [String(index), arm.label]);
  const set = (name) => (value) => choose(found, { [name]: Number(value) });
  const select = (label, name, values) => html`<${Field} label=${label}>${(attributes) => html`<${Select} attributes=${attributes} value=${String(chosen[name])} options=${values} onChange=${set(name)} />`}<//>`;
  if (arms.length < 2) return html`<p class="quiet">There is one arm only; <a href="${root}/?from=${found.id}">fork</a> it to add another.</p>`;
  const both = a.images.length > 0 && b.images.length > 0;
  return html`<${Fragment}><section class="pair" aria-labelledby="pair-title">
    <div class="stack">
      <div class="card tight">
        <div class="bar"><h2 id="pair-title">A against B</h2>${!brief && html`<span class="push"><${ZoomBar} /></span>`}</div>
        <div class="fields">${select("A", "a", options)}${select("B", "b", options)}
          ${prompts.length > 1 && select("Prompt of the pair", "prompt", prompts.map((text, index) => [String(index), text]))}
          ${seeds.length > 1 && select("Seed of the pair", "seed", seeds.map((seed, index) => [String(index), String(seed)]))}</div>
        ${both ? html`<${Pair} a=${named(a)} b=${named(b)} width=${width} height=${height} />` : html`<p class="quiet">The slider comes when both pictures are made.</p>`}
      </div>
      ${!brief && html`<${Scrubber} ...${{ a, b, arms, width, height, beat }} />`}
    </div>
    <div class="stack">
      ${both && html`<section class="card tight" aria-labelledby="differs"><h2 id="differs">What differs</h2><${Differs} ...${{ a, b, arms, beat }} /></section>`}
      ${both && found.qr && html`<${CodeReport} a=${a} b=${b} arms=${arms} qr=${found.qr} />`}
      ${brief && html`<${Trajectory} live=${live} row=${row} only=${["guidance_norm"]} />`}
    </div>
  </section>${!brief && html`<${Trajectory} live=${live} row=${row} />`}<//>`;
}
