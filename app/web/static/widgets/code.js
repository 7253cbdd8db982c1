// A QR code's result: what is read, by which readers, how much correction is left, and which modules are wrong.

import { html } from "../vendor/ui.js";
import { put, query } from "../lib/route.js";
import { count, percent, short } from "../lib/say.js";

export const QR_SCORES = ["ssr_any", "ssr_all", "margin", "module_error", "battery_mild", "battery_hard"];

/** Names of the readers whose verdict is this. */
const readers = ({ qr }, verdict) => Object.keys(qr.readers).filter((name) => qr.readers[name] === verdict);

/** One line for a cell of the grid. */
export const scans = (image) => (image.metrics.ssr_any ? `scans, ${percent(image.metrics.margin)} of the correction left` : "does not scan");

/** The modules of a picture that read wrong, over it. */
export function WrongModules({ image }) {
  const { wrong, module_px, quiet_zone } = image.qr;
  const d = wrong.map(([row, column]) => `M${(column + quiet_zone) * module_px},${(row + quiet_zone) * module_px}h${module_px}v${module_px}h${-module_px}z`).join("");
  return html`<svg class="marks" viewBox="0 0 ${image.width} ${image.height}" role="img" aria-label="${count(wrong.length, "module")} read wrong"><path d=${d} /></svg>`;
}

/** `a`, `b`: cells with pictures; `qr`: what was asked for. */
export function CodeReport({ a, b, arms, qr }) {
  const images = [a.images[0], b.images[0]];
  const marked = query("marks") === "1";
  const modules = (17 + 4 * qr.version) ** 2;
  const rows = [
    ["Read", images.map((image) => (image.qr.text === null ? "nothing" : image.qr.text === qr.data ? "the text asked for" : image.qr.text))],
    ["Readers that read it exactly", images.map((image) => readers(image, "read").join("; ") || "none")],
    ["Readers not installed", images.map((image) => readers(image, "unavailable").join("; ") || "none")],
    ["Error correction left unused", images.map((image) => percent(image.metrics.margin))],
    ["Modules that read wrong", images.map((image) => `${image.qr.wrong.length} of ${modules} (${short(100 * image.metrics.module_error)} %)`)],
    ["Read when slightly disturbed", images.map((image) => percent(image.metrics.battery_mild))],
    ["Read when strongly disturbed", images.map((image) => percent(image.metrics.battery_hard))],
    ["Symbol", images.map((image) => `version ${image.qr.version}, mask ${image.qr.mask}, ${qr.ecc}`)],
  ];
  return html`<section class="card tight" aria-labelledby="code"><h2 id="code">The QR codes</h2>
    <p>They shall be read as <code>${qr.data}</code></p>
    <label class="check"><input type="checkbox" checked=${marked} onChange=${(event) => put({ marks: event.target.checked ? "1" : null })} />Mark the modules that read wrong</label>
    <div class="scroll" tabindex="0" role="region" aria-label="What readers make of A and B"><table class="data">
      <thead><tr><td></td><th scope="col">A ${arms[a.arm].label}</th><th scope="col">B ${arms[b.arm].label}</th></tr></thead>
      <tbody>${rows.map(([name, values]) => html`<tr><th scope="row">${name}</th>${values.map((value) => html`<td class="text wrap">${value}</td>`)}</tr>`)}</tbody>
    </table></div>
    <p class="quiet">Disturbed: blurred, noisy, smaller, compressed, paler, darker, tilted; seven or eight pictures each. A margin is what a scratch or a logo may still take.</p>
  </section>`;
}
