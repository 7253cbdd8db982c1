// Which metrics measure the pictures: more of them say more, and each takes a model of its own.

import { html, useRef } from "../vendor/ui.js";
import { catalogue } from "../lib/api.js";
import { USUAL_METRICS } from "../lib/draft.js";

/** `now`: the draft; `change(changes)`. */
export function ScoreForm({ now, change, errors }) {
  const chosen = now.metrics || USUAL_METRICS;
  const wrong = errors.filter((error) => error.pointer.startsWith("/metrics"));
  const told = useRef(false); // once it says something it stays open
  told.current ||= wrong.length > 0 || chosen.join() !== USUAL_METRICS.join();
  const turn = (name, on) => change({ metrics: on ? [...chosen, name] : chosen.filter((one) => one !== name) });
  return html`<details open=${told.current}><summary>Scores of the pictures</summary><fieldset class="tight"><legend class="sr">Metrics that measure them</legend>
    ${catalogue.value.metrics.map(({ name, title, summary }) => html`<div key=${name}><label class="check"><input type="checkbox" checked=${chosen.includes(name)} aria-describedby="metric-${name}" onChange=${(event) => turn(name, event.target.checked)} />${title}</label>
      <p class="quiet" id="metric-${name}">${summary}</p></div>`)}
    <p class="bad">${wrong.map((error) => error.detail).join(" ")}</p></fieldset></details>`;
}
