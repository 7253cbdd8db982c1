// A comparison that is kept up to date: snapshot first, then one stream of events for all its cells.
// Events set, never add, and are applied once per frame; a lost stream is taken up where it ended.

import { batch, computed, signal } from "../vendor/ui.js";
import { comparison, get, post } from "./api.js";
import { root } from "./route.js";

const STATES = ["queued", "start", "completed", "failed", "canceled", "expired"];
const OPEN = ["queued", "starting", "processing"];
const RETRY_MS = 2000;

export class Live {
  constructor(id) {
    this.id = id;
    this.found = signal(null);
    this.problem = signal(null);
    this.connected = signal(true);
    this.cells = [];
    this.counts = computed(() => tally(this.found.value ? this.cells.map((cell) => cell.value.status) : []));
    this.open = computed(() => OPEN.some((name) => this.counts.value[name]));
    this.pending = [];
    this.frame = null;
    this.see = () => (document.hidden ? this.close() : this.start());
    document.addEventListener("visibilitychange", this.see);
    this.start();
  }

  end() {
    document.removeEventListener("visibilitychange", this.see);
    this.ended = true;
    this.close();
  }

  /** Read the snapshot and, while anything runs, follow. */
  async start() {
    try {
      this.take(await get(comparison(this.id)));
      this.problem.value = null;
    } catch (problem) {
      if (problem.status) this.problem.value = problem;
      else this.again();
      return;
    }
    if (this.ended) return;
    this.connected.value = true;
    if (this.open.value) this.follow();
  }

  take(told) {
    batch(() => {
      for (const cell of told.cells) this.set(cell.index, (before) => ({ ...before, ...cell }));
      this.found.value = told;
    });
  }

  set(index, change) {
    this.cells[index] ??= signal({ rows: new Map() });
    this.cells[index].value = change(this.cells[index].value);
  }

  follow() {
    this.close();
    const source = (this.source = new EventSource(`${root}${comparison(this.id)}/events?after=${this.found.value.last_event_id}`));
    const hear = (name) => source.addEventListener(name, (event) => this.put(name, JSON.parse(event.data)));
    ["snapshot", "progress", "preview", "guidance", "image", "done", ...STATES].forEach(hear);
    source.onopen = () => (this.connected.value = true);
    source.onerror = () => {
      if (this.source !== source) return;
      this.connected.value = false;
      if (source.readyState === EventSource.CLOSED) this.again();
    };
  }

  again() {
    this.connected.value = false;
    clearTimeout(this.timer);
    if (!this.ended) this.timer = setTimeout(() => !document.hidden && this.start(), RETRY_MS);
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  put(name, data) {
    this.pending.push([name, data]);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      const due = this.pending;
      this.pending = [];
      batch(() => due.forEach(([name, data]) => this.apply(name, data)));
    });
  }

  apply(name, data) {
    if (name === "snapshot") this.take(data);
    else if (name === "done") this.close();
    else if (STATES.includes(name)) this.set(data.cell, (cell) => ({ ...cell, ...data, preview: name === "completed" ? null : cell.preview }));
    else if (name === "progress") this.set(data.cell, (cell) => ({ ...cell, status: "processing", progress: data }));
    else if (name === "preview" && data.index === 0) this.set(data.cell, (cell) => ({ ...cell, preview: { url: data.url, step: data.step }, seen: [...(cell.seen ?? []), data.step] }));
    else if (name === "guidance") {
      this.set(data.cell, (cell) => {
        const rows = new Map(cell.rows);
        for (const row of data.rows) if (row.index === 0) rows.set(row.step, row);
        return { ...cell, rows };
      });
    }
  }

  /** The whole trace of a cell that has ended, once. */
  async trace(index) {
    const cell = this.cells[index].value;
    if (cell.traced || !cell.images.length) return;
    this.set(index, (now) => ({ ...now, traced: true }));
    const { images } = await get(`/v1/jobs/${cell.job}/trace`);
    const rows = new Map((images[0]?.rows ?? []).map((row) => [row.step, row]));
    this.set(index, (now) => ({ ...now, rows }));
  }

  async act(what, query = "") {
    this.take(await post(`${comparison(this.id)}/${what}${query}`));
    if (this.open.value) this.follow();
  }

  at(prompt, seed, arm) {
    const { seeds, arms } = this.found.value;
    return this.cells[(prompt * seeds.length + seed) * arms.length + arm];
  }
}

function tally(states) {
  const counts = {};
  for (const state of states) counts[state] = (counts[state] ?? 0) + 1;
  return counts;
}
