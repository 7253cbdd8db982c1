// A labelled field with its error: what the server found wrong stands beside what it speaks of.

import { html, useId } from "../vendor/ui.js";

/** `at`: the JSON pointer of the value; errors at or below it are shown here. `row`: the label stands before the
 * input, not above. `children`: attributes -> input. */
export function Field({ label, at, errors = [], hint, row, children }) {
  const id = useId();
  const own = errors.filter((error) => error.pointer === at || error.pointer.startsWith(`${at}/`));
  const described = [hint && `${id}-hint`, own.length && `${id}-error`].filter(Boolean).join(" ");
  const attributes = { id, "aria-invalid": own.length ? "true" : null, "aria-describedby": described || null };
  return html`<div class=${row ? "row" : null}>
    <label for=${id}>${label}</label>
    ${children(attributes)}
    ${hint && html`<p class="quiet" id="${id}-hint">${hint}</p>`}
    <p class="bad" id="${id}-error">${own.map((error) => error.detail).join(" ")}</p>
  </div>`;
}

export const Select = ({ attributes, options, value, onChange }) => html`
  <select ...${attributes} value=${value} onChange=${(event) => onChange(event.target.value)}>
    ${options.map(([name, text, disabled]) => html`<option value=${name} selected=${name === value} disabled=${disabled}>${text}</option>`)}
  </select>`;
