// The page: compose a request, run one job per arm, show what differs.

import * as api from "/static/api.js";
import { addArm, guidances, setArms, setMethods, showErrors } from "/static/arms.js";
import { byId, make } from "/static/dom.js";
import { finish, plots, show, startGrid, table, wipe } from "/static/results.js";

const EXAMPLES = ["a red apple, 3d", "a red heart, 3d", "grinning face, fluent", "a strawberry, fluent", "a panda, flat, on a green background", "a frog, 3d, on a black background"];
const WORKED = [{ method: "cfg", scale: 4 }, { method: "cfgpp", scale: 0.6 }, { method: "apg", scale: 6 }];
const FIELDS = ["prompt", "negative_prompt", "model", "sampler", "steps", "seed"];
let models = [];
let running = [];

const say = (text) => (byId("status").textContent = text);

async function begin() {
  theme(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  byId("examples").append(...EXAMPLES.map((text) => make("button", { type: "button", click: () => (byId("prompt").value = text) }, text)));
  try {
    const [methods, samplers, found] = await Promise.all([api.list("guidance"), api.list("samplers"), api.list("models")]);
    models = found;
    setMethods(methods);
    byId("model").append(...models.map((model) => make("option", { value: model.id }, model.title || model.id)));
    byId("sampler").append(...samplers.map((sampler) => make("option", { value: sampler.id }, sampler.title)));
  } catch (problem) {
    say(problem.message);
    return;
  }
  adopt(models[0]);
  restore();
  byId("model").addEventListener("change", () => adopt(models.find((model) => model.id === byId("model").value)));
  byId("compose").addEventListener("submit", (event) => { event.preventDefault(); run(); });
  byId("worked").addEventListener("click", () => { setArms(WORKED); run(); });
  byId("add").addEventListener("click", addArm);
  byId("cancel").addEventListener("click", () => running.forEach((id) => api.cancel(id).catch((problem) => say(problem.message))));
  byId("share").addEventListener("click", share);
  byId("theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
}

/** Take a model's defaults over into the form. */
function adopt(model) {
  const takes = new Set(Object.values(model.takes).flat());
  for (const option of byId("sampler").options) option.disabled = !takes.has(option.value);
  byId("sampler").value = model.sampler;
  byId("steps").value = model.steps;
  if (!guidances().length) setArms([model.guidance ?? { method: "cfg" }].map(({ method, scale }) => ({ method, scale })));
}

function spec(guidance) {
  const steps = Number(byId("steps").value);
  return {
    model: byId("model").value,
    prompt: byId("prompt").value,
    negative_prompt: byId("negative_prompt").value,
    seeds: [Number(byId("seed").value)],
    steps,
    sampler: byId("sampler").value,
    guidance,
    preview_every: Math.max(1, Math.floor(steps / 8)),
    priority: "interactive",
  };
}

async function run() {
  for (const box of document.querySelectorAll(".error")) box.textContent = "";
  const chosen = guidances();
  remember(chosen);
  const handles = startGrid(chosen);
  if (matchMedia("(max-width: 820px)").matches) byId("results").scrollIntoView(); // it lies below the form
  say(chosen.length > 1 ? `${chosen.length} arms from the same noise…` : "Working…");
  busy(true);
  const jobs = await Promise.all(chosen.map((guidance, index) => runArm(guidance, index, handles[index])));
  busy(false);
  const done = jobs.filter((job) => job?.status === "succeeded");
  say(done.length === jobs.length ? "Done." : `${done.length} of ${jobs.length} arms succeeded.`);
  const shown = jobs.map((job) => job ?? { images: [] });
  table(shown);
  wipe(shown);
  const found = await Promise.all(shown.map((job) => (job.id ? api.trace(job.id).catch(() => null) : null)));
  plots(done, found);
}

async function runArm(guidance, index, handle) {
  try {
    const { id } = await api.create(spec(guidance));
    running.push(id);
    const job = await api.follow(id, (name, data) => show(handle, name, data));
    finish(handle, job);
    return job;
  } catch (problem) {
    handle.bar.hidden = true;
    handle.note.textContent = problem.message;
    explain(problem, index);
    return null;
  }
}

/** Put each error beside the field that it speaks of. */
function explain(problem, index) {
  const own = problem.errors.filter((error) => error.pointer.startsWith("/guidance"));
  showErrors(index, own);
  for (const error of problem.errors) {
    const box = document.querySelector(`[data-error="${CSS.escape(error.pointer)}"]`);
    if (box) box.textContent = error.detail;
  }
}

function busy(on) {
  byId("run").disabled = byId("worked").disabled = on;
  byId("cancel").hidden = !on;
  if (on) running = [];
}

/** Keep what was asked in the address, so that it can be shared. */
function remember(chosen) {
  const state = Object.fromEntries(FIELDS.map((field) => [field, byId(field).value]));
  history.replaceState(null, "", `#${new URLSearchParams({ ...state, arms: JSON.stringify(chosen) })}`);
}

function restore() {
  const state = new URLSearchParams(location.hash.slice(1));
  for (const field of FIELDS) if (state.has(field)) byId(field).value = state.get(field);
  try {
    if (state.has("arms")) setArms(JSON.parse(state.get("arms")));
  } catch {
    say("The link's arms could not be read; the defaults are shown.");
  }
}

async function share() {
  remember(guidances());
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link is copied.");
  } catch {
    say("The link is in the address bar.");
  }
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("theme", name);
  byId("theme").textContent = name === "dark" ? "Light" : "Dark";
  byId("theme").setAttribute("aria-pressed", String(name === "dark"));
}

begin();
