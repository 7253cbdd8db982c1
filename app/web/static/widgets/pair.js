// Two pictures of one row: side by side, slider, blink, onion skin, difference. Zoom is shared by all.

import { Fragment, html, useEffect, useRef, useState } from "../vendor/ui.js";
import { KINDS } from "../lib/difference.js";
import { local, put, query } from "../lib/route.js";
import { short } from "../lib/say.js";
import { Picture, View } from "../widgets/view.js";

export const MODES = { slider: "Slider", side: "Side by side", blink: "Blink", onion: "Onion skin", diff: "Difference" };
const BLINK_MS = 600;

/** `a`, `b`: {image, name, arm}; the mode and its settings are in the address. */
export function Pair({ a, b, width, height }) {
  const mode = MODES[query("mode")] ? query("mode") : "slider";
  const Mode = { slider: Slider, side: Side, blink: Blink, onion: Onion, diff: Difference }[mode];
  return html`<div class="tight">
    <div class="bar">
      <fieldset class="pills"><legend class="sr">How to compare</legend>${Object.entries(MODES).map(([name, text]) => html`<label><input type="radio" name="mode" value=${name} checked=${name === mode} onChange=${() => put({ mode: name })} />${text}</label>`)}</fieldset>
    </div>
    <${Mode} a=${a} b=${b} width=${width} height=${height} />
  </div>`;
}

const Tags = ({ a, b }) => html`<${Fragment}><span class="tag">A ${a.name}</span><span class="tag right">B ${b.name}</span><//>`;

function Slider({ a, b, width, height }) {
  const at = Number(query("at", "50"));
  const way = query("way") === "level" ? "level" : "upright";
  const set = (value) => put({ at: value === 50 ? null : value });
  return html`<${Fragment}>
    <div class="surround"><${View} width=${width} height=${height} style=${{ "--at": at / 100 }}>
      <${Picture} image=${a.image} alt="A: ${a.alt}" />
      <div class="clip ${way}"><${Picture} image=${b.image} alt="B: ${b.alt}" /></div>
      <div class="rule ${way}"></div><${Tags} a=${a} b=${b} />
      <input id="at" class="over ${way}" type="range" min="0" max="100" step="1" value=${at} aria-valuetext="${at} % ${a.name}, ${100 - at} % ${b.name}" onInput=${(event) => set(Number(event.target.value))} />
    <//></div>
    <label for="at">Where A ends and B begins</label>
    <div class="bar" role="group" aria-label="Slider positions">${[0, 25, 50, 75, 100].map((value) => html`<button type="button" class="plain" aria-pressed=${value === at} onClick=${() => set(value)}>${value} %</button>`)}
      <button type="button" class="plain push" aria-pressed=${way === "level"} onClick=${() => put({ way: way === "level" ? null : "level" })}>Horizontal edge</button></div>
  <//>`;
}

const Side = ({ a, b, width, height }) => html`<${Fragment}><div class="surround">${[["A", a], ["B", b]].map(([role, one]) => html`<figure>
  <${View} width=${width} height=${height} whole=${query("free") === "1" && role === "B"}><${Picture} image=${one.image} alt="${role}: ${one.alt}" /><//><figcaption>${role} ${one.name}</figcaption></figure>`)}</div>
  <label class="check"><input type="checkbox" checked=${query("free") === "1"} onChange=${(event) => put({ free: event.target.checked ? "1" : null })} />Keep B whole while A is zoomed</label><//>`;

function Blink({ a, b, width, height }) {
  const [second, show] = useState(false);
  const [auto, run] = useState(false);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  useEffect(() => {
    if (!auto) return undefined;
    const timer = setInterval(() => show((now) => !now), BLINK_MS);
    return () => clearInterval(timer);
  }, [auto]);
  useEffect(() => {
    const key = (on) => (event) => {
      if (event.key !== " " || event.target.closest?.("input, textarea, select, button, a, summary")) return;
      event.preventDefault();
      show(on);
    };
    const [down, up] = [key(true), key(false)];
    addEventListener("keydown", down);
    addEventListener("keyup", up);
    return () => { removeEventListener("keydown", down); removeEventListener("keyup", up); };
  }, []);
  const one = second ? b : a;
  const hold = (on) => () => show(on);
  return html`<${Fragment}><div class="surround"><${View} width=${width} height=${height}><${Picture} image=${a.image} alt=${second ? "" : `A: ${a.alt}`} />
      <div class="clip" hidden=${!second}><${Picture} image=${b.image} alt="B: ${b.alt}" /></div><span class="tag">${second ? "B" : "A"} ${one.name}</span><//></div>
    <div class="bar"><button type="button" aria-pressed=${second} onPointerDown=${hold(true)} onPointerUp=${hold(false)} onPointerLeave=${hold(false)}
        onKeyDown=${(event) => event.key === " " && show(true)} onKeyUp=${(event) => event.key === " " && show(false)}>Hold to see B (Space)</button>
      ${!still && html`<button type="button" aria-pressed=${auto} onClick=${() => run(!auto)}>${auto ? "Stop blinking" : "Blink by itself"}</button>`}</div><//>`;
}

function Onion({ a, b, width, height }) {
  const share = Number(query("mix", "50"));
  return html`<${Fragment}><div class="surround"><${View} width=${width} height=${height}><${Picture} image=${a.image} alt="A: ${a.alt}" />
      <div class="clip" style=${{ opacity: share / 100 }}><${Picture} image=${b.image} alt="B: ${b.alt}" /></div><${Tags} a=${a} b=${b} /><//></div>
    <label for="mix">How much of B lies over A</label>
    <input id="mix" type="range" min="0" max="100" value=${share} aria-valuetext="${share} % ${b.name} over ${a.name}" onInput=${(event) => put({ mix: event.target.value })} /><//>`;
}

async function pixels(url) {
  const image = new Image();
  image.src = local(url);
  await image.decode();
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

let worker;
let asked = 0;

/** What the worker says of two pictures: {told, scale, painted}. */
async function compared(a, b, kind, fit) {
  const [one, other] = await Promise.all([pixels(a), pixels(b)]);
  if (one.width !== other.width || one.height !== other.height) throw new Error("the pictures differ in size");
  worker ??= new Worker(new URL("../lib/difference-worker.js", import.meta.url), { type: "module" });
  const id = ++asked;
  const answer = new Promise((give, fail) => {
    const hear = ({ data }) => data.id === id && (worker.removeEventListener("message", hear), give(data));
    worker.addEventListener("message", hear);
    worker.addEventListener("error", fail, { once: true });
  });
  worker.postMessage({ id, kind, fit, a: one.data, b: other.data, width: one.width });
  return { ...(await answer), width: one.width, height: one.height };
}

function Difference({ a, b, width, height }) {
  const kind = KINDS[query("kind")] ? query("kind") : "rgb";
  const fit = query("fit") === "1";
  const canvas = useRef();
  const [found, tell] = useState(null);
  const about = KINDS[kind];
  useEffect(() => {
    let stale = false;
    compared(a.image.url, b.image.url, kind, fit).then((answer) => {
      if (stale || !canvas.current) return;
      canvas.current.width = answer.width;
      canvas.current.height = answer.height;
      canvas.current.getContext("2d").putImageData(new ImageData(answer.painted, answer.width), 0, 0);
      tell({ ...answer, kind });
    }).catch((problem) => !stale && tell({ problem: problem.message ?? "the browser could not compute it" }));
    return () => (stale = true);
  }, [a.image.url, b.image.url, kind, fit]);
  const told = found?.kind === kind ? found.told : null; // numbers of another measure would be false
  const scale = short(found?.scale ?? about.scale);
  const summary = told ? `mean ${short(told.mean)}, 99th percentile ${short(told.p99)}, most ${short(told.most)}` : found?.problem ?? "computing";
  const rows = told && [["Mean", told.mean], ["99th percentile", told.p99], ["Most", told.most], ["PSNR, dB", told.psnr], ["SSIM", told.ssim]];
  return html`<${Fragment}><div class="surround"><${View} width=${width} height=${height}><canvas ref=${canvas} role="img" aria-label="Difference of ${a.name} and ${b.name}, ${about.title}: ${summary}"></canvas><//></div>
    <div class="bar"><fieldset class="pills"><legend class="sr">Measure</legend>${Object.entries(KINDS).map(([name, one]) => html`<label><input type="radio" name="kind" value=${name} checked=${name === kind} onChange=${() => put({ kind: name === "rgb" ? null : name })} />${one.title}</label>`)}</fieldset>
      <label class="check push"><input type="checkbox" checked=${fit} onChange=${(event) => put({ fit: event.target.checked ? "1" : null })} />Scale to this pair</label></div>
    <div class="heat ${about.signed ? "signed" : ""}" aria-hidden="true"></div>
    <p class="bar between quiet num"><span>${about.signed ? `−${scale}` : 0}</span><span>${about.unit}</span><span>${scale} and more</span></p>
    ${found?.problem && html`<p class="note trouble">No difference: ${found.problem}.</p>`}
    ${rows && html`<dl class="figures" id="difference">${rows.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value === Infinity ? "identical" : short(value)}</dd></div>`)}</dl>`}<//>`;
}
