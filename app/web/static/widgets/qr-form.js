// What the QR code of every cell holds and how it is drawn; shown where a method makes one.

import { html } from "../vendor/ui.js";
import { Field, Select } from "./field.js";

const ECC = [["L", "L, 7 %"], ["M", "M, 15 %"], ["Q", "Q, 25 %"], ["H", "H, 30 %"]];

/** `qr`: what is set so far; `set(qr)` replaces it; `model`: its card. */
export function QrForm({ qr, set, model, errors }) {
  const put = (name, value) => set({ ...qr, [name]: value });
  const number = (name, label, attributes) => html`<${Field} label=${label} at="/qr/${name}" errors=${errors}>${(shared) => html`<input ...${shared} ...${attributes} type="number"
    value=${qr[name] === "auto" ? "" : qr[name] ?? ""} onInput=${(event) => put(name, event.target.value === "" ? "" : Number(event.target.value))} />`}<//>`;
  const whole = errors.filter((error) => error.pointer === "/qr");
  const led = model.extras.includes("controlnet");
  return html`<fieldset class="tight"><legend><h3>QR code</h3></legend>
    <${Field} label="What a scanner reads" at="/qr/data" errors=${errors}>${(attributes) => html`<input ...${attributes} maxlength="2953" value=${qr.data ?? ""} onInput=${(event) => put("data", event.target.value)} />`}<//>
    ${whole.length > 0 && html`<p class="bad">${whole.map((error) => error.detail).join(" ")}</p>`}
    <div class="fields">
      <${Field} label="error correction" at="/qr/ecc" errors=${errors}>${(attributes) => html`<${Select} attributes=${attributes} value=${qr.ecc ?? "M"} options=${ECC} onChange=${(value) => put("ecc", value)} />`}<//>
      ${number("module_px", "module, px", { step: model.cell_px, min: model.cell_px, placeholder: model.qr.module_px })}
    </div>
    <label class="check"><input type="checkbox" checked=${qr.guarantee === "scannable"} onChange=${(event) => put("guarantee", event.target.checked ? "scannable" : "none")} />Try again until it scans</label>
    <details><summary>More of the code</summary><div class="tight">
      <div class="fields">
        ${number("version", "version", { min: 1, max: 40, placeholder: "smallest" })}
        ${number("mask", "mask", { min: 0, max: 7, placeholder: "best" })}
        ${number("quiet_zone", "quiet zone, modules", { min: 0, max: 16, placeholder: 4 })}
        ${number("control_scale", "control scale", { min: 0, max: 4, step: "any", placeholder: led ? model.qr.control_scale : "no ControlNet", disabled: !led })}
      </div>
      <label class="check"><input type="checkbox" checked=${qr.follow ?? true} onChange=${(event) => put("follow", event.target.checked)} />Choose free modules after the picture</label>
    </div></details>
  </fieldset>`;
}
