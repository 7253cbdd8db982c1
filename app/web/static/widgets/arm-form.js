// One arm of a comparison: a method, and a form made from its JSON Schema. A new method needs nothing here.

import { Fragment, html, useState } from "../vendor/ui.js";
import { Field, Select } from "../widgets/field.js";
import { sweep } from "../lib/draft.js";
import { fieldsOf, read, slider, write } from "../lib/schema.js";
import { Swatch } from "../widgets/swatch.js";

/** `change(arm)` replaces it; `more(arms)` puts several in its place; `move(by)`, `remove()`. */
export function ArmForm({ arm, index, count, methods, model, samplers, errors, change, more, move, remove }) {
  const method = methods[arm.guidance.method];
  const at = `/arms/${index}`;
  const set = (path, value) => change({ ...arm, guidance: write(arm.guidance, path, value, method.defaults) });
  const fields = fieldsOf(method.schema, method.defaults, arm.guidance);
  const form = (field) => html`<${Parameter} key=${field.path.join("/")} field=${field} at="${at}/guidance/${field.path.join("/")}" errors=${errors}
    value=${read(arm.guidance, field.path) ?? ""} set=${(value) => set(field.path, value)} />`;
  const presets = Object.entries(method.presets);
  return html`<fieldset class="card arm tight" style=${{ "--arm": `var(--arm-${index})` }}>
    <legend class="sr">Arm ${letter(index)}</legend>
    <div class="bar"><${Swatch} arm=${index} /><h3>Arm ${letter(index)}</h3>${index === 0 && html`<span class="quiet">baseline</span>`}
      <span class="push bar">
        ${index > 0 && html`<button type="button" class="plain" aria-label="Move arm ${letter(index)} forward" onClick=${() => move(-1)}>←</button>`}
        ${index < count - 1 && html`<button type="button" class="plain" aria-label="Move arm ${letter(index)} back" onClick=${() => move(1)}>→</button>`}
      </span></div>
    <${Field} label="Method of arm ${letter(index)}" at="${at}/guidance/method" errors=${errors}>${(attributes) => html`
      <${Select} attributes=${attributes} value=${arm.guidance.method} onChange=${(name) => change({ guidance: { method: name } })}
        options=${Object.values(methods).map((one) => [one.id, takes(one, model) ? one.title : `${one.title} (not with this model)`, !takes(one, model) && one.id !== arm.guidance.method])} />`}<//>
    <p class="quiet">${method.summary} ${method.paper?.arxiv && html`<a href=${method.paper.url} target="_blank" rel="noreferrer">arXiv ${method.paper.arxiv}</a>`}</p>
    <div class="tight">${fields.filter((field) => !field.advanced).map(form)}</div>
    ${presets.length > 0 && html`<${Field} label="Values as published">${(attributes) => html`<${Select} attributes=${attributes} value=""
      options=${[["", "choose"], ...presets.map(([name]) => [name, name])]} onChange=${(name) => name && change({ ...arm, guidance: { method: method.id, ...method.presets[name] } })} />`}<//>`}
    <details><summary>More</summary><div class="tight">
      ${fields.filter((field) => field.advanced).map(form)}
      <div class="fields">
        <${Field} label="steps" at="${at}/steps" errors=${errors}>${(attributes) => html`<input ...${attributes} type="number" min="1" placeholder="as all" value=${arm.steps ?? ""} onInput=${(event) => change({ ...arm, steps: event.target.value })} />`}<//>
        <${Field} label="sampler" at="${at}/sampler" errors=${errors}>${(attributes) => html`<${Select} attributes=${attributes} value=${arm.sampler ?? ""}
          options=${[["", "as all"], ...samplers.map((one) => [one.id, one.title])]} onChange=${(value) => change({ ...arm, sampler: value })} />`}<//>
        <${Field} label="label" at="${at}/label" errors=${errors}>${(attributes) => html`<input ...${attributes} maxlength="60" placeholder="from the method" value=${arm.label ?? ""} onInput=${(event) => change({ ...arm, label: event.target.value })} />`}<//>
      </div>
      <${Sweep} fields=${fields} make=${(name, values) => more(values.map((value) => ({ ...arm, label: "", guidance: { ...arm.guidance, [name]: value } })))} />
    </div></details>
    <div class="bar foot">
      ${index > 0 && html`<button type="button" class="plain" aria-label="Make arm ${letter(index)} the baseline" onClick=${() => move(-index)}>Make baseline</button>`}
      <span class="push bar"><button type="button" class="plain" onClick=${() => more([arm, { ...arm, label: "" }])} disabled=${count >= 8}>Duplicate</button>
      ${count > 1 && html`<button type="button" class="plain" onClick=${remove}>Remove</button>`}</span></div>
  </fieldset>`;
}

export const letter = (index) => "ABCDEFGH"[index];
const takes = (method, model) => !model || (method.models[model]?.length ?? 1) > 0;

function Parameter({ field, at, errors, value, set }) {
  const { path, schema, kind, usual } = field;
  const label = path.join(" ").replaceAll("_", " ");
  const number = (attributes) => {
    const slide = slider(kind, usual);
    const now = value === "" ? usual : value;
    return html`<${Fragment}><input ...${attributes} type="number" step=${kind.type === "integer" ? 1 : "any"} min=${kind.minimum} max=${kind.maximum}
        value=${value} placeholder=${usual ?? ""} onInput=${(event) => set(event.target.value === "" ? "" : Number(event.target.value))} />
      ${slide && html`<input type="range" aria-label=${label} aria-valuetext=${now ?? "not set"} min=${slide.min} max=${slide.max} value=${slide.at(now ?? slide.min)}
        onInput=${(event) => set(slide.read(Number(event.target.value)))} />`}<//>`;
  };
  const input = (attributes) => {
    if (kind.enum) return html`<${Select} attributes=${attributes} value=${value || usual} options=${kind.enum.map((one) => [one, one])} onChange=${set} />`;
    if (kind.type === "boolean") return html`<input ...${attributes} type="checkbox" checked=${value === "" ? usual : value} onChange=${(event) => set(event.target.checked)} />`;
    if (kind.type === "string") return html`<input ...${attributes} value=${value} placeholder=${usual} onInput=${(event) => set(event.target.value)} />`;
    return number(attributes);
  };
  return html`<${Field} row label=${label} at=${at} errors=${errors} hint=${schema.description}>${input}<//>`;
}

/** One parameter, several values: an arm each. */
function Sweep({ fields, make }) {
  const names = fields.filter(({ path, kind }) => path.length === 1 && ["number", "integer"].includes(kind.type)).map(({ path }) => path[0]);
  const [name, choose] = useState("scale");
  const [text, write] = useState("1-10 [4]");
  const values = sweep(text);
  if (!names.length) return null;
  return html`<${Fragment}><p class="quiet">Sweep: one arm for each value of a parameter.</p><div class="fields">
    <${Field} label="sweep">${(attributes) => html`<${Select} attributes=${attributes} value=${name} options=${names.map((one) => [one, one.replaceAll("_", " ")])} onChange=${choose} />`}<//>
    <${Field} label="over">${(attributes) => html`<input ...${attributes} value=${text} onInput=${(event) => write(event.target.value)} />`}<//>
    <button type="button" disabled=${!values} onClick=${() => make(names.includes(name) ? name : names[0], values)}>${values ? `Make ${values.length} arms` : "1-10 [4] or 1, 4, 7"}</button>
  </div><//>`;
}
