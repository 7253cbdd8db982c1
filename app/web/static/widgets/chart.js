// Plots as SVG in the page: themed by CSS, readable by keyboard, as a table, and by a sentence.

import { Fragment, html, signal, useId, useRef, useState } from "../vendor/ui.js";
import { csv, picture, save } from "../lib/save.js";
import { announce, short } from "../lib/say.js";
import { DASHES, Swatch } from "../widgets/swatch.js";

const [WIDTH, HEIGHT] = [420, 230];
const ROW = 42;
const BOX = { left: 44, right: 408, top: 10, bottom: 194 };

/** The cursor, shared by all line plots of a page: a share of the x axis, or null. */
export const cursor = signal(null);

/** About `wanted` round numbers from `low` to `high`. */
export function ticks(low, high, wanted = 4) {
  if (!(high > low)) return [low];
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((one) => one * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(10)));
  return found;
}

/** A scale from data to the drawing; `log` needs positive values. */
export function scale(low, high, from, to, log = false) {
  const f = log ? Math.log10 : (value) => value;
  const [a, b] = [f(low), f(high)];
  const to_ = (value) => from + (b > a ? (f(value) - a) / (b - a) : 0.5) * (to - from);
  const marks = log ? ticks(a, b, 4).map((power) => 10 ** power) : ticks(low, high);
  return { at: to_, marks };
}

const path = (points, x, y) => points.map(([u, v], i) => `${i ? "L" : "M"}${x.at(u).toFixed(1)},${y.at(v).toFixed(1)}`).join("");

/** Lines over a common x: `lines`: [{arm, name, points: [[x, y]], low, high: the same for a band, single: many of it}]. */
export function LinePlot({ title, about, xTitle, lines, most, log: usual = false, flip = false, logX = false }) {
  const [chosen, choose] = useState(null);
  const all = lines.flatMap((line) => line.points.map(([, y]) => y));
  const positive = all.some((y) => y > 0) && all.every((y) => y === null || y >= 0);
  const log = positive && (chosen ?? usual);
  const values = lines.flatMap((line) => [...line.points, ...(line.low ?? []), ...(line.high ?? [])].map(([, y]) => y)).filter((y) => Number.isFinite(y) && (!log || y > 0));
  const xs = [...new Set(lines.flatMap((line) => line.points.map(([x]) => x)))].sort((a, b) => (flip ? b - a : a - b));
  if (!values.length || xs.length < 2) return null;
  const x = scale(Math.min(...xs), flip ? Math.max(...xs) : Math.max(most, ...xs), flip ? BOX.right : BOX.left, flip ? BOX.left : BOX.right, logX);
  const y = scale(log ? Math.min(...values) : Math.min(0, ...values), Math.max(...values), BOX.bottom, BOX.top, log);
  const keep = (points) => points.filter(([, value]) => Number.isFinite(value) && (!log || value > 0));
  const at = cursor.value === null ? null : xs[Math.round(cursor.value * (xs.length - 1))];
  const read = (line) => line.points.find(([u]) => u === at)?.[1];
  const words = lines.map((line) => `${line.name} from ${short(line.points[0][1])} to ${short(line.points.at(-1)[1])}`).join("; ");
  const step = (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, Home: -1e9, End: 1e9 }[event.key];
    if (!by) return;
    event.preventDefault();
    const now = cursor.value === null ? -1 : Math.round(cursor.value * (xs.length - 1));
    const next = Math.min(xs.length - 1, Math.max(0, now + by));
    cursor.value = next / (xs.length - 1);
    announce(`${xTitle} ${short(xs[next])}: ${lines.map((line) => `${line.name} ${short(line.points.find(([u]) => u === xs[next])?.[1])}`).join(", ")}`);
  };
  const point = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const inside = ((event.clientX - box.left) / box.width) * WIDTH;
    const nearest = xs.reduce((best, u) => (Math.abs(x.at(u) - inside) < Math.abs(x.at(best) - inside) ? u : best));
    cursor.value = xs.indexOf(nearest) / (xs.length - 1);
  };
  return html`<${Framed} title=${title} about=${about} words=${words} columns=${[xTitle, ...lines.map((line) => line.name)]}
      extra=${positive && html`<button type="button" class="plain" aria-pressed=${log} onClick=${() => choose(!log)}>Log</button>`}
      rows=${xs.map((u) => [u, ...lines.map((line) => line.points.find(([v]) => v === u)?.[1])])}>
    <svg class="plot" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" tabindex="0" aria-label="${title}: ${words}. Arrow keys read the values." onKeyDown=${step} onPointerMove=${point} onPointerLeave=${() => (cursor.value = null)}>
      <${Axes} ...${{ x, y, xTitle }} />
      ${lines.map((line) => html`<g style=${{ "--arm": `var(--arm-${line.arm})` }}>
        ${line.low && html`<path class="band" d="${path([...keep(line.low), ...keep(line.high).reverse()], x, y)}Z" />`}
        ${line.single?.map((points) => html`<path class="thin" d=${path(keep(points), x, y)} />`)}
        <path class="line" stroke-dasharray=${DASHES[line.arm]} d=${path(keep(line.points), x, y)} /></g>`)}
      ${at !== null && html`<line class="cursor" x1=${x.at(at)} x2=${x.at(at)} y1=${BOX.top} y2=${BOX.bottom} />`}
    </svg>
    <p class="legend num">${lines.map((line) => html`<span><${Swatch} arm=${line.arm} />${line.name}${at !== null && read(line) !== undefined ? ` ${short(read(line))}` : ""}</span>`)}</p>
  <//>`;
}

/** A dot with its interval per arm, and a rule at `zero`, unless null: `dots`: [{arm, name, value, low, high, text}]. */
export function DotPlot({ title, xTitle, dots, zero = 0 }) {
  const values = dots.flatMap((dot) => [dot.value, dot.low ?? dot.value, dot.high ?? dot.value]);
  const all = zero === null ? values : [zero, ...values];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const pad = (high - low || 1) * 0.08;
  const x = scale(low - pad, high + pad, BOX.left - 20, BOX.right, false);
  const height = 40 + dots.length * ROW;
  return html`<${Framed} title=${title} words=${dots.map((dot) => `${dot.name} ${dot.text}`).join("; ")} columns=${["arm", "value", "low", "high"]} rows=${dots.map((dot) => [dot.name, dot.value, dot.low, dot.high])}>
    <svg class="plot" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${title}: ${dots.map((dot) => `${dot.name} ${dot.text}`).join("; ")}">
      ${x.marks.map((mark) => html`<g><line class="rule" x1=${x.at(mark)} x2=${x.at(mark)} y1="4" y2=${height - 32} /><text x=${x.at(mark)} y=${height - 18} text-anchor="middle">${short(mark)}</text></g>`)}
      ${zero !== null && html`<line class="axis" x1=${x.at(zero)} x2=${x.at(zero)} y1="4" y2=${height - 32} />`}
      <text x=${(BOX.left + BOX.right) / 2} y=${height - 4} text-anchor="middle">${xTitle}</text>
      ${dots.map((dot, i) => html`<g style=${{ "--arm": `var(--arm-${dot.arm})` }}>
        <text class="name" x=${BOX.left - 20} y=${16 + i * ROW}>${dot.name}</text>
        ${dot.low !== null && html`<line class="span" x1=${x.at(dot.low)} x2=${x.at(dot.high)} y1=${30 + i * ROW} y2=${30 + i * ROW} />`}
        <circle class="dot" r="5" cx=${x.at(dot.value)} cy=${30 + i * ROW} /></g>`)}
    </svg><//>`;
}

/** A dot per picture: `dots`: [{arm, name, x, y, href}]. */
export function Scatter({ title, xTitle, yTitle, dots }) {
  if (!dots.length) return null;
  const range = (key) => [Math.min(...dots.map((dot) => dot[key])), Math.max(...dots.map((dot) => dot[key]))];
  const [x, y] = [scale(...range("x"), BOX.left + 8, BOX.right - 8), scale(...range("y"), BOX.bottom - 8, BOX.top + 8)];
  return html`<${Framed} title=${title} words="${dots.length} pictures" columns=${["picture", xTitle, yTitle]} rows=${dots.map((dot) => [dot.name, dot.x, dot.y])}>
    <svg class="plot" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="group" aria-label="${title}, a dot for each of ${dots.length} pictures">
      <${Axes} ...${{ x, y, xTitle, yTitle }} />
      ${dots.map((dot) => html`<a href=${dot.href} aria-label="${dot.name}: ${short(dot.x)}, ${short(dot.y)}" style=${{ "--arm": `var(--arm-${dot.arm})` }}><circle class="dot" r="6" cx=${x.at(dot.x)} cy=${y.at(dot.y)}><title>${dot.name}</title></circle></a>`)}
    </svg><//>`;
}

const Axes = ({ x, y, xTitle, yTitle }) => html`<${Fragment}>
  ${y.marks.map((mark) => html`<g><line class="rule" x1=${BOX.left} x2=${BOX.right} y1=${y.at(mark)} y2=${y.at(mark)} /><text x=${BOX.left - 6} y=${y.at(mark) + 4} text-anchor="end">${short(mark)}</text></g>`)}
  ${x.marks.map((mark) => html`<text x=${x.at(mark)} y=${BOX.bottom + 16} text-anchor="middle">${short(mark)}</text>`)}
  <line class="axis" x1=${BOX.left} x2=${BOX.right} y1=${BOX.bottom} y2=${BOX.bottom} />
  <text x=${(BOX.left + BOX.right) / 2} y=${HEIGHT - 4} text-anchor="middle">${xTitle}</text>
  ${yTitle && html`<text x="2" y=${BOX.top - 2}>${yTitle}</text>`}<//>`;

const sentence = (text) => text[0].toUpperCase() + text.slice(1);

/** A plot with its title, its table, and its data to take along. */
function Framed({ title, about, words, columns, rows, extra, children }) {
  const id = useId();
  const figure = useRef();
  const [table, show] = useState(false);
  return html`<figure class="card tight" ref=${figure} aria-labelledby=${id}>
    <div class="bar"><h2 id=${id}>${title}</h2><span class="push bar">
      ${extra}<button type="button" class="plain" aria-pressed=${table} onClick=${() => show(!table)}>Table</button>
      <button type="button" class="plain" onClick=${() => save(`${title}.csv`, csv([columns, ...rows]), "text/csv")}>CSV</button>
      <button type="button" class="plain" onClick=${() => save(`${title}.svg`, picture(figure.current.querySelector("svg.plot"), title), "image/svg+xml")}>SVG</button></span></div>
    ${about && html`<p class="quiet">${sentence(about)}</p>`}
    ${children}
    <p class="sr">${words}</p>
    ${table && html`<div class="scroll" tabindex="0" role="region" aria-label="Values of ${title}"><table class="data"><thead><tr>${columns.map((column) => html`<th scope="col">${column}</th>`)}</tr></thead>
      <tbody>${rows.map(([head, ...cells]) => html`<tr><th scope="row">${short(head)}</th>${cells.map((cell) => html`<td>${short(cell)}</td>`)}</tr>`)}</tbody></table></div>`}
  </figure>`;
}
