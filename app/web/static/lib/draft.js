// What a person writes in the form, as a request and back. Pure functions.

import { given } from "./schema.js";

export const FIELDS = ["model", "negative_prompt", "sampler", "steps", "width", "height", "init_image", "mask", "strength", "embedded_scale", "metrics"];
const NUMBERS = new Set(["steps", "width", "height", "strength", "embedded_scale"]);
/** What measures the pictures of a request that says nothing of it. */
export const USUAL_METRICS = ["basic"];
const CODE = { data: "https://example.org/lodestar", ecc: "M" };
const NOT_OF_CODES = ["width", "height", "init_image", "mask", "strength"];
const OF_PICTURES = ["mask", "strength"];

/** Lines as prompts; `a {red|blue} apple` stands for both. */
export function prompts(text) {
  const lines = text.split("\n").map((line) => line.trim()).filter(Boolean);
  return [...new Set(lines.flatMap(expand))];
}

function expand(line) {
  const found = /\{([^{}]*\|[^{}]*)\}/.exec(line);
  if (!found) return [line];
  const [before, after] = [line.slice(0, found.index), line.slice(found.index + found[0].length)];
  return found[1].split("|").flatMap((choice) => expand(before + choice.trim() + after));
}

/** `1, 2, 5-8` as numbers; null where it is none. */
export function seeds(text) {
  const found = [];
  for (const part of text.split(/[\s,]+/).filter(Boolean)) {
    const range = /^(\d+)-(\d+)$/.exec(part);
    if (range && Number(range[2]) >= Number(range[1]) && range[2] - range[1] < 1000) {
      for (let seed = Number(range[1]); seed <= Number(range[2]); seed++) found.push(seed);
    } else if (/^\d+$/.test(part)) found.push(Number(part));
    else return null;
  }
  return found.length ? [...new Set(found)] : null;
}

/** `1-10 [4]`, `1-10 (+3)` or `1, 4, 7` as numbers; null where it is none. */
export function sweep(text) {
  const range = /^\s*(-?[\d.]+)\s*-\s*(-?[\d.]+)\s*(?:\[(\d+)\]|\(\+([\d.]+)\))\s*$/.exec(text);
  if (range) {
    const [low, high] = [Number(range[1]), Number(range[2])];
    const step = range[4] ? Number(range[4]) : (high - low) / (Number(range[3]) - 1 || 1);
    if (!(step > 0) || !(high >= low)) return null;
    const size = range[3] ? Number(range[3]) : Math.floor((high - low) / step + 1e-9) + 1;
    return size <= 8 ? Array.from({ length: size }, (_, i) => Number((low + i * step).toPrecision(6))) : null;
  }
  const list = text.split(/[\s,]+/).filter(Boolean).map(Number);
  return list.length && list.length <= 8 && list.every(Number.isFinite) ? list : null;
}

/** The request as an address carries it: without a picture, which would be too long. */
export function linked(spec) {
  const { init_image, mask, strength, edit, ...rest } = spec;
  if (init_image?.startsWith("data:")) return rest;
  return mask?.startsWith("data:") ? { ...spec, mask: undefined } : spec;
}

/** What the methods of these arms need, as the catalogue says. */
export const needsOf = (arms, methods) => new Set(arms.flatMap((arm) => methods[arm.guidance.method]?.needs ?? []));

/** The form as a request. */
export function request(draft, methods) {
  const needs = needsOf(draft.arms, methods);
  const code = needs.has("qr");
  const spec = { prompts: prompts(draft.prompts), seeds: seeds(draft.seeds) ?? [], arms: draft.arms.map(arm) };
  if (code) spec.qr = given(draft.qr);
  if (needs.has("classes")) spec.classes = listed(draft.classes);
  if (draft.edit && draft.init_image && !code) spec.edit = { source_prompt: draft.source_prompt ?? "" };
  for (const name of FIELDS) {
    if (code && NOT_OF_CODES.includes(name)) continue;
    if (OF_PICTURES.includes(name) && (draft.edit || !draft.init_image)) continue;
    const value = draft[name];
    if (value !== "" && value !== undefined && value !== null) spec[name] = NUMBERS.has(name) ? Number(value) : value;
  }
  return spec;
}

const listed = (text) => text.split(",").map((one) => one.trim()).filter(Boolean);

function arm({ guidance, label, steps, sampler }) {
  const told = { guidance: given(guidance) };
  if (label) told.label = label;
  if (steps) told.steps = Number(steps);
  if (sampler) told.sampler = sampler;
  return told;
}

/** A request as the form shows it. */
export function draftOf(spec) {
  const draft = {
    prompts: (spec.prompts ?? [spec.prompt ?? ""]).join("\n"),
    seeds: (spec.seeds ?? [1]).join(", "),
    arms: (spec.arms ?? [{ guidance: spec.guidance ?? { method: "cfg" } }]).map((one) => ({ ...one, guidance: { ...one.guidance } })),
  };
  for (const name of FIELDS) draft[name] = spec[name] ?? "";
  for (const name of ["init_image", "mask"]) if (draft[name].startsWith("sha256:")) draft[name] = ""; // a digest, as in a finished request, is no picture
  return { ...draft, qr: spec.qr ?? CODE, classes: (spec.classes ?? []).join(", "), edit: Boolean(spec.edit), source_prompt: spec.edit?.source_prompt ?? "" };
}

/** A comparison as a request for the same: what all arms share is said once. */
export function requestOf(found) {
  const shared = (name) => (found.arms.every((arm) => arm[name] === found.arms[0][name]) ? found.arms[0][name] : null);
  const spec = { prompts: found.prompts, seeds: found.seeds, model: found.model, negative_prompt: found.negative_prompt };
  if (found.classes.length) spec.classes = found.classes;
  if (found.qr) spec.qr = found.qr;
  else Object.assign(spec, { width: found.width, height: found.height });
  const began = `lodestar:jobs/${found.cells[0].job}`;
  if (found.init_image) Object.assign(spec, { init_image: `${began}/init_image`, ...(found.edit ? { edit: found.edit } : { strength: found.strength }) });
  if (found.mask) spec.mask = `${began}/mask`;
  if (found.metrics.join() !== USUAL_METRICS.join()) spec.metrics = found.metrics;
  if (found.embedded_scale !== null) spec.embedded_scale = found.embedded_scale;
  const [steps, sampler] = [shared("steps"), shared("sampler")];
  if (steps) spec.steps = steps;
  if (sampler) spec.sampler = sampler;
  spec.arms = found.arms.map((arm) => ({
    label: arm.label,
    guidance: arm.guidance,
    ...(steps ? {} : { steps: arm.steps }),
    ...(sampler ? {} : { sampler: arm.sampler }),
  }));
  return spec;
}

/** The request inside a PNG that this service made; null where there is none. */
export function requestInside(buffer) {
  const view = new DataView(buffer);
  if (view.byteLength < 16 || view.getUint32(0) !== 0x89504e47) return null;
  for (let at = 8; at + 12 <= view.byteLength; ) {
    const size = view.getUint32(at);
    const kind = String.fromCharCode(...new Uint8Array(buffer, at + 4, 4));
    if (kind === "iTXt") {
      const text = new TextDecoder().decode(new Uint8Array(buffer, at + 8, size));
      if (text.startsWith("lodestar\0\0\0")) return JSON.parse(text.slice(text.indexOf("{")));
    }
    at += size + 12;
  }
  return null;
}
