// The state of the fleet: what waits, what runs, who works, what went wrong; in a sentence first.

import { html, signal, useEffect } from "../vendor/ui.js";
import { get, post } from "../lib/api.js";
import { count, say, short } from "../lib/say.js";

const EVERY_MS = 2000;
const state = signal(null);
const problem = signal(null);

async function load() {
  try {
    const list = (status) => get(`/v1/jobs?limit=20&${status.map((name) => `status=${name}`).join("&")}`);
    const [queue, workers, open, failed, done] = await Promise.all([get("/v1/queue"), get("/v1/workers"), list(["queued", "starting", "processing"]), list(["failed"]), list(["succeeded"])]);
    state.value = { queue, workers: workers.data, open: open.data, failed: failed.data, done: done.data };
    problem.value = null;
  } catch (error) {
    problem.value = error;
  }
}

const act = (job, what) => () => post(`/v1/jobs/${job.id}/${what}`).then(load).catch((error) => say(error.message));

export default function System() {
  useEffect(() => {
    document.title = "System · Lodestar";
    load();
    const timer = setInterval(() => !document.hidden && load(), EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  const now = state.value;
  return html`<div class="stack"><h1 tabindex="-1">System</h1>
    ${problem.value && html`<p class="note trouble" role="alert">${problem.value.message}</p>`}
    ${!now ? html`<p class="quiet">Asking…</p>` : html`<p class="note ${now.workers.length ? "" : "trouble"}">${sentence(now)}</p>
    <dl class="card figures">${[["waiting", now.queue.queued], ["running", now.queue.running], ["workers", now.workers.length], ["room in the queue", now.queue.max_queued - now.queue.queued - now.queue.running]].map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
    <${Table} title="Workers" empty="None is alive. Start one with: lodestar worker" head=${["Worker", "Device", "Models", "Rows", "Last heard"]} rows=${now.workers.map((one) => [one.id, one.device, one.models.join(", "), `${one.rows} of ${one.max_rows}`, ago(one.heartbeat_at)])} />
    <${Table} title="Pace of the last jobs" empty="No job has ended yet." head=${["Model and size", "Pictures", "Evaluations a second, one job alone"]} rows=${paces(now.done)} />
    <${Table} title="Open jobs" empty="Nothing waits or runs." head=${["Prompt", "Method", "State", "Progress", ""]} rows=${now.open.map((job) => [job.resolved.prompt, job.resolved.guidance.method, job.status, `${job.progress.step} of ${job.progress.total || "–"}`, html`<button type="button" class="plain" aria-label="Cancel job ${job.id}" onClick=${act(job, "cancel")}>Cancel</button>`])} />
    <${Table} title="Failed jobs" empty="None is known." head=${["Prompt", "Method", "Why", "When", ""]} rows=${now.failed.map((job) => [job.resolved.prompt, job.resolved.guidance.method, job.error?.message, ago(job.completed_at), html`<button type="button" class="plain" aria-label="Retry job ${job.id}" onClick=${act(job, "retry")}>Retry</button>`])} />`}
  </div>`;
}

/** What is the matter, if anything. */
function sentence({ queue, workers }) {
  if (!workers.length) return `No worker is alive, so ${queue.queued ? `${count(queue.queued, "job")} wait` : "nothing would run"}. Start one with: lodestar worker`;
  if (queue.queued > 20 * workers.length) return `${count(queue.queued, "job")} wait for ${count(workers.length, "worker")}: another worker would help.`;
  return `All is well: ${count(workers.length, "worker")} alive, ${count(queue.queued, "job")} waiting.`;
}

const Table = ({ title, head, rows, empty }) => html`<section class="card tight"><h2>${title}</h2>
  ${rows.length ? html`<div class="scroll" tabindex="0" role="region" aria-label=${title}><table class="data"><thead><tr>${head.map((text) => (text ? html`<th scope="col">${text}</th>` : html`<td></td>`))}</tr></thead>
    <tbody>${rows.map(([first, ...cells]) => html`<tr><th scope="row">${first}</th>${cells.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody></table></div>` : html`<p class="quiet">${empty}</p>`}</section>`;

function ago(time) {
  const seconds = Math.max(0, (Date.now() - new Date(time)) / 1000);
  return seconds < 90 ? `${Math.round(seconds)} s ago` : seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : new Date(time).toLocaleString();
}

function paces(jobs) {
  const groups = new Map();
  for (const job of jobs) {
    const key = `${job.resolved.model}, ${job.resolved.width} × ${job.resolved.height}`;
    if (!groups.has(key)) groups.set(key, []);
    if (job.timings?.denoise_ms) groups.get(key).push(job);
  }
  return [...groups].map(([key, some]) => {
    const nfe = some.reduce((sum, job) => sum + job.nfe.model * job.images.length, 0);
    return [key, some.reduce((sum, job) => sum + job.images.length, 0), short(nfe / (some.reduce((sum, job) => sum + job.timings.denoise_ms, 0) / 1000))];
  });
}
