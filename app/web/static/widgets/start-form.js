// The picture that every cell starts from, and how far from it the methods may go.

import { html } from "../vendor/ui.js";
import { say } from "../lib/say.js";
import { local, root } from "../lib/route.js";
import { Field } from "./field.js";

/** `now`: the draft; `change(changes)`. */
export function StartForm({ now, change, errors }) {
  const picture = now.init_image;
  const take = (file, changes) => {
    if (!file) return;
    const reader = new FileReader();
    reader.onload = () => change(changes(reader.result));
    reader.onerror = () => say("This file could not be read.");
    reader.readAsDataURL(file);
  };
  const file = (attributes, changes) => html`<input ...${attributes} type="file" accept="image/png,image/jpeg,image/webp" onChange=${(event) => take(event.target.files[0], changes)} />`;
  return html`<details open=${Boolean(picture)}><summary>Start from a picture</summary><div class="tight">
    <${Field} label="Picture to start from" at="/init_image" errors=${errors} hint=${picture ? "It is fitted to the size above. A link carries it only once it was run." : "Every cell begins from it, noised; or edits it."}>${(attributes) => file(attributes, (init_image) => ({ init_image, mask: "" }))}<//>
    ${picture && html`<div class="bar"><img class="start" src=${shown(picture)} alt="What every cell starts from" width="80" height="80" />
      <button type="button" class="plain" onClick=${() => change({ init_image: "", mask: "", strength: "", edit: false })}>Start from noise instead</button></div>
    <label class="check"><input type="checkbox" checked=${now.edit} onChange=${(event) => change({ edit: event.target.checked })} />Edit it: invert it, then follow the prompt</label>
    ${now.edit
      ? html`<${Field} label="What it shows now" at="/edit" errors=${errors}>${(attributes) => html`<input ...${attributes} dir="auto" value=${now.source_prompt} onInput=${(event) => change({ source_prompt: event.target.value })} />`}<//>`
      : html`<${Field} label="Mask, white where it is made anew" at="/mask" errors=${errors} hint="Of the picture's size, in black and white; what is black stays.">${(attributes) => file(attributes, (mask) => ({ mask }))}<//>
      ${now.mask && html`<div class="bar"><img class="start" src=${shown(now.mask)} alt="Where every cell is made anew, in white" width="80" height="80" /><button type="button" class="plain" onClick=${() => change({ mask: "" })}>Make all of it anew</button></div>`}
      <${Field} label="Share of the steps that change it" at="/strength" errors=${errors}>${(attributes) => html`<input ...${attributes} type="number" min="0.05" max="1" step="0.05" placeholder=${now.mask ? "1" : "0.8"} value=${now.strength} onInput=${(event) => change({ strength: event.target.value })} />`}<//>`}`}
  </div></details>`;
}

const shown = (picture) => (picture.startsWith("data:") ? picture : local(picture.replace("lodestar:", `${root}/v1/`)));
