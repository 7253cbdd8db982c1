// Which scale of one method does what another arm does: sweep it, read the curve, go on with the matched scale.

import { html, useState } from "../vendor/ui.js";
import { post } from "../lib/api.js";
import { requestOf, sweep } from "../lib/draft.js";
import { go, put, query } from "../lib/route.js";
import { say, short } from "../lib/say.js";
import { useTold } from "../lib/told.js";
import { LinePlot } from "./chart.js";
import { Field, Select } from "./field.js";

const MOST_POINTS = 7;

export const Calibration = ({ live }) => html`<div class="stack">
  ${swept(live.found.value.arms) && html`<${Curve} live=${live} />`}
  <${Sweep} live=${live} />
</div>`;

/** Whether two arms differ in their scale alone, and there is a third. */
function swept(arms) {
  const kinds = arms.map(({ guidance: { scale, ...rest }, steps, sampler }) => scale !== undefined && JSON.stringify([rest, steps, sampler]));
  return arms.length > 2 && kinds.some((kind, index) => kind && kinds.indexOf(kind) !== index);
}

function Curve({ live }) {
  const found = live.found.value;
  const made = live.open.value ? 0 : live.counts.value.succeeded;
  const { told: curve, problem } = useTold(found.id, `calibration?of=${encodeURIComponent(query("of", "saturation"))}`, made);
  if (problem) return html`<p class="note">${problem.message}</p>`;
  if (!curve) return html`<p class="quiet">The curve comes when all pictures are made.</p>`;
  const { points, target, mean, matched, of, choices, differences } = curve;
  const method = found.arms[points[0].arm].guidance.method;
  const [low, high] = [points[0].scale, points.at(-1).scale];
  const spread = (sign) => points.map((point) => [point.scale, point.mean + sign * (point.deviation ?? 0)]);
  const lines = [
    { arm: points[0].arm, name: method, points: points.map((point) => [point.scale, point.mean]), ...(points.some((point) => point.deviation) ? { low: spread(-1), high: spread(1) } : {}) },
    { arm: target, name: found.arms[target].label, points: [[low, mean], [high, mean]] },
  ];
  const use = async () => {
    const spec = requestOf(found);
    const { label, ...base } = spec.arms[points[0].arm];
    const scale = Number(matched.toPrecision(3));
    try {
      const { id } = await post("/v1/comparisons", { ...spec, title: `${method} at the scale that matches ${found.arms[target].label}`.slice(0, 200), arms: [spec.arms[target], { ...base, label: `${method} ${scale}, matched`, guidance: { ...base.guidance, scale } }] });
      go(`/compare/${id}`);
    } catch (error) {
      say(error.message);
    }
  };
  return html`<div class="stack">
    <div class="note bar"><p>${curve.text}</p>${matched !== null && html`<button type="button" class="push primary" onClick=${use}>Compare at scale ${short(matched)}</button>`}</div>
    <div class="fields"><${Field} label="What shall be equal">${(attributes) => html`<${Select} attributes=${attributes} value=${query("of", of.name)} options=${choices.map((one) => [one.name, one.title])} onChange=${(name) => put({ of: name })} />`}<//></div>
    <div class="plots"><${LinePlot} title="${of.title} by scale" about="mean over the pictures; the band is one standard deviation" xTitle="scale of ${method}" most=${high} lines=${lines} />
    ${differences.length > 0 && html`<section class="card tight" aria-labelledby="apart"><h2 id="apart">What else differs at scale ${short(matched)}</h2>
      <p class="quiet">${method} minus ${found.arms[target].label}, by pairs of pictures; between two scales that were run, each picture is taken to lie on the line between its two.</p>
      <div class="scroll" tabindex="0" role="region" aria-label="Differences at the matched scale"><table class="data"><thead><tr><th scope="col">Of the pictures</th><th scope="col">Difference [95 %]</th></tr></thead>
        <tbody>${differences.map(({ name, title, difference }) => html`<tr key=${name}><th scope="row">${title}</th><td class=${difference.clear ? "strong" : ""}>${difference.text}</td></tr>`)}</tbody></table></div></section>`}</div>
  </div>`;
}

/** Run the same prompts and seeds with one arm's scale at several values, beside the arm to match. */
function Sweep({ live }) {
  const found = live.found.value;
  const scaled = found.arms.map((arm, index) => [String(index), arm.label]).filter(([index]) => found.arms[index].guidance.scale !== undefined);
  const [one, choose] = useState(scaled[0]?.[0]);
  const others = found.arms.map((arm, index) => [String(index), arm.label]).filter(([index]) => index !== one);
  const [other, match] = useState(others.at(-1)?.[0]);
  const [text, write] = useState("1-12 [6]");
  if (!scaled.length || !others.length) return html`<p class="quiet">There is no other arm to match a scale to; fork the comparison to add one.</p>`;
  const values = sweep(text);
  const fits = values && values.length > 1 && values.length <= MOST_POINTS;
  const target = other === one ? others[0][0] : other;
  const run = async (event) => {
    event.preventDefault();
    const spec = requestOf(found);
    const { label, ...base } = spec.arms[Number(one)];
    const arms = [spec.arms[Number(target)], ...values.map((scale) => ({ ...base, label: `${base.guidance.method} ${scale}`, guidance: { ...base.guidance, scale } }))];
    try {
      const { id } = await post("/v1/comparisons", { ...spec, title: `${label.slice(0, 80)} by scale, to match ${found.arms[Number(target)].label}`, arms });
      go(`/compare/${id}?view=match`);
    } catch (error) {
      say(error.message);
    }
  };
  return html`<form class="card tight" onSubmit=${run}><h2>Match a scale</h2>
    <p class="quiet">Scales of different methods mean different things. This runs one method at several scales on the same prompts and seeds, and reads off where it does as much as another arm.</p>
    <div class="fields">
      <${Field} label="Sweep the scale of">${(attributes) => html`<${Select} attributes=${attributes} value=${one} options=${scaled} onChange=${choose} />`}<//>
      <${Field} label="to match">${(attributes) => html`<${Select} attributes=${attributes} value=${target} options=${others} onChange=${match} />`}<//>
      <${Field} label="at scales">${(attributes) => html`<input ...${attributes} value=${text} onInput=${(event) => write(event.target.value)} />`}<//>
    </div>
    <div><button disabled=${!fits}>${fits ? `Run the sweep, ${values.length} scales` : `2 to ${MOST_POINTS} scales: 1-12 [6] or 2, 4, 8`}</button></div>
  </form>`;
}
