// A comparison that is kept up to date: snapshot first, then one stream of events for all its cells.
// Events set, never add; a lost stream is taken up where it ended. What changes with every step lies in signals
// of its own, and a frame applies only as many events as it has time for: so many cells stay smooth.

import { batch, computed, signal } from "../vendor/ui.js";
import { comparison, get, post } from "./api.js";
import { root } from "./route.js";

const STATES = ["queued", "start", "completed", "failed", "canceled", "expired"];
const OPEN = ["queued", "starting", "processing"];
const RETRY_MS = 2000;
const SLICE_MS = 7;
const SLICE_EVENTS = 8;
const BEAT_MS = 500;
/** A browser has six connections to a server for all its tabs; what is loaded and asked needs some. */
const STREAMS = 4;

/** A place for a stream among those of all tabs: how to give it back, or null where none is free. */
async function placed() {
  if (!navigator.locks) return () => {}; // as on plain http from another machine
  for (let number = 0; number < STREAMS; number++) {
    const free = await new Promise((tell) => {
      navigator.locks.request(`lodestar-stream-${number}`, { ifAvailable: true }, (lock) => lock ? new Promise((leave) => tell(leave)) : tell(null));
    });
    if (free) return free;
  }
  return null;
}

/** How a cell's picture came about: progress, the last preview and the steps of all, the trace by step (see `beat`). */
class Course {
  steps = signal(null);
  preview = signal(null);
  seen = [];
  rows = new Map();
  traced = false;
}

/** `cells` are signals of records: what the server tells of a cell, and its `course`. */
export class Live {
  constructor(id) {
    this.id = id;
    this.found = signal(null);
    this.problem = signal(null);
    this.connected = signal(true);
    /** Ticks at most twice a second, after rows of cells have changed. */
    this.beat = signal(0);
    this.cells = [];
    this.told = [];
    this.counts = computed(() => tally(this.found.value ? this.cells.map((cell) => cell.value.status) : []));
    this.open = computed(() => OPEN.some((name) => this.counts.value[name]));
    this.pending = [];
    this.began = null;
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

  /** A whole comparison; what is as it was is left alone. */
  take({ cells, last_event_id, counts, status, thumbnails, ...about }) {
    this.last = last_event_id;
    const text = JSON.stringify(about);
    batch(() => {
      for (const cell of cells) {
        const told = JSON.stringify(cell);
        if (told !== this.told[cell.index]) this.set(cell);
        this.told[cell.index] = told;
      }
      if (text !== this.text) this.found.value = { ...about, cells };
      this.text = text;
    });
  }

  set({ index, ...changes }) {
    this.cells[index] ??= signal({ index, course: new Course() });
    const before = this.cells[index].peek();
    const again = changes.status === "queued" && before.status !== "queued";
    const course = again ? new Course() : before.course;
    if (changes.progress) course.steps.value = changes.progress;
    this.cells[index].value = { ...before, ...changes, course };
    this.told[index] = null;
  }

  /** Hear of events; where too many tabs do, ask again and again until there is a place. */
  async follow() {
    this.close();
    const turn = (this.turn = {});
    const free = await placed();
    if (this.turn !== turn) return free?.();
    if (!free) return void (this.timer = setTimeout(() => this.start(), RETRY_MS));
    this.free = free;
    this.began = null;
    const source = (this.source = new EventSource(`${root}${comparison(this.id)}/events?after=${this.last}`));
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
    this.turn = null;
    this.free?.();
    this.free = null;
    this.source?.close();
    this.source = null;
  }

  put(name, data) {
    this.pending.push([name, data]);
    this.frame ??= requestAnimationFrame(() => this.apply());
  }

  /** Apply what is pending, a few at a time and each few drawn, until this frame's time is up. */
  async apply() {
    const began = performance.now();
    let done = 0;
    while (done < this.pending.length && performance.now() - began < SLICE_MS) {
      const due = this.pending.slice(done, done + SLICE_EVENTS);
      batch(() => due.forEach(([name, data]) => this.hear(name, data)));
      done += due.length;
      await null; // components are drawn between here and there
    }
    this.pending.splice(0, done);
    this.frame = this.pending.length ? requestAnimationFrame(() => this.apply()) : null;
  }

  hear(name, data) {
    if (name === "snapshot") return this.take(data);
    if (name === "done") return this.close();
    const { status, course } = this.cells[data.cell].peek();
    if (STATES.includes(name)) this.set({ ...data, index: data.cell });
    else if (name === "progress") {
      course.steps.value = data;
      if (status !== "processing") this.set({ index: data.cell, status: "processing" });
    } else if (name === "preview" && data.index === 0) {
      course.seen.push(data.step);
      course.preview.value = data;
    } else if (name === "guidance") {
      for (const row of data.rows) if (row.index === 0) course.rows.set(row.step, row);
      this.beatLater ??= setTimeout(() => this.tick(), BEAT_MS);
    }
  }

  /** Seconds until all is made, at the pace since this page follows; null while there is none. */
  left() {
    const cells = this.cells.map((cell) => cell.value);
    const share = cells.reduce((sum, { status, course }) => sum + (OPEN.includes(status) ? course.steps.peek()?.fraction ?? 0 : 1), 0) / cells.length;
    const now = performance.now() / 1000;
    this.began ??= { now, share };
    const [passed, done] = [now - this.began.now, share - this.began.share];
    return passed > 3 && done > 0.02 ? ((1 - share) * passed) / done : null;
  }

  tick() {
    clearTimeout(this.beatLater);
    this.beatLater = null;
    this.beat.value += 1;
  }

  /** The whole traces of these cells, once they have ended. */
  async trace(cells) {
    const due = cells.filter((cell) => cell.images.length && !cell.course.traced);
    await Promise.all(due.map(async ({ job, course }) => {
      course.traced = true;
      const { images } = await get(`/v1/jobs/${job}/trace`).catch(() => ({ images: [] }));
      for (const row of images[0]?.rows ?? []) course.rows.set(row.step, row);
    }));
    if (due.length) this.tick();
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
