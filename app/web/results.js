// What came out: the grid, the wipe, the table of differences, the plots.

import { byId, make, short } from "/static/dom.js";
import { defaults, title, traces } from "/static/arms.js";

const letter = (index) => "ABCD"[index];

/** Draw an empty grid; answers one handle per arm. */
export function startGrid(guidances) {
  byId("wipe").hidden = true;
  byId("table").replaceChildren();
  byId("plots").replaceChildren();
  const handles = guidances.map((guidance, index) => {
    const image = make("img", { alt: "", class: "small", width: 64, height: 64 });
    const bar = make("progress", { max: 1, value: 0, "aria-label": `Progress of arm ${letter(index)}` });
    const note = make("p", { class: "summary" }, "queued");
    const cell = make(
      "article",
      { class: "cell", "--arm": `var(--arm-${index})` },
      make("h3", {}, `${letter(index)}: ${title(guidance.method)}`),
      make("div", { class: "frame" }, image),
      bar,
      note,
    );
    return { cell, image, bar, note };
  });
  byId("grid").replaceChildren(...handles.map((handle) => handle.cell));
  return handles;
}

/** React to one event of an arm. */
export function show(handle, name, data) {
  if (name === "progress") {
    handle.bar.value = data.fraction ?? 0;
    handle.note.textContent = data.total ? `${data.stage}, step ${data.step} of ${data.total}` : data.stage;
  }
  if (name === "preview") {
    handle.image.src = data.url;
    handle.image.alt = `preview after step ${data.step + 1}`;
  }
}

/** Draw an arm that has ended. */
export function finish(handle, job) {
  handle.bar.hidden = true;
  const [image] = job.images;
  if (image) {
    handle.image.src = image.url;
    handle.image.alt = `${job.resolved.prompt}, ${title(job.resolved.guidance.method)}, seed ${image.seed}`;
    handle.image.classList.toggle("small", image.width < 200);
  }
  const seconds = job.timings ? ` in ${(job.timings.denoise_ms / 1000).toFixed(2)} s` : "";
  handle.note.textContent =
    job.status === "succeeded" ? `${job.nfe.model} evaluations${seconds}` : `${job.status}: ${job.error?.message ?? "stopped"}`;
  const spec = JSON.stringify(job.input, null, 1);
  const curl = `curl -s ${location.origin}/v1/jobs -H 'Content-Type: application/json' -d '${JSON.stringify(job.input).replaceAll("'", "'\\''")}'`;
  handle.cell.append(make("details", {}, make("summary", {}, "Request"), make("pre", {}, spec), make("pre", {}, curl)));
  for (const warning of job.warnings) handle.cell.append(make("p", { class: "summary" }, `Note: ${warning}`));
}

/** Two pictures above each other, with a rule between them that a range input moves. */
export function wipe(jobs) {
  const done = jobs.filter((job) => job.images.length);
  const box = byId("wipe");
  box.hidden = done.length < 2;
  if (box.hidden) return;
  const [under, over] = [make("img", { alt: "" }), make("img", { alt: "", class: "over" })];
  const stack = make("div", { class: "stack" }, under, over, make("div", { class: "rule" }));
  const select = (label, chosen) =>
    make(
      "select",
      { "aria-label": label, change: update },
      ...jobs.map((job, index) =>
        job.images.length ? make("option", { value: index, selected: job === chosen }, `${letter(index)}: ${title(job.resolved.guidance.method)}`) : null,
      ),
    );
  const left = select("Left picture", done[0]);
  const right = select("Right picture", done[1]);
  const range = make("input", { type: "range", id: "at", min: 0, max: 100, value: 50, "aria-label": "Where the two pictures meet", input: update });
  function update() {
    const [a, b] = [jobs[left.value], jobs[right.value]];
    under.src = a.images[0].url;
    under.alt = `left: ${title(a.resolved.guidance.method)}`;
    over.src = b.images[0].url;
    over.alt = `right: ${title(b.resolved.guidance.method)}`;
    stack.style.setProperty("--at", `${range.value}%`);
    stack.style.setProperty("--part", range.value / 100);
  }
  box.replaceChildren(make("h2", {}, "Side by side"), stack, make("div", { class: "pick" }, left, range, right));
  update();
}

/** Parameters and scores of all arms; rows that differ are marked. */
export function table(jobs) {
  const done = jobs.filter((job) => job.images.length);
  if (!done.length) return;
  const rows = [
    ["method", (job) => job.resolved.guidance.method],
    ...keys(done, chosen).map((key) => [key, (job) => job.resolved.guidance[key]]),
    ["evaluations", (job) => job.nfe.model],
    ["denoising, ms", (job) => Math.round(job.timings.denoise_ms)],
    ...keys(done, (job) => job.images[0].metrics).map((key) => [key, (job) => job.images[0].metrics[key]]),
  ];
  const body = rows
    .map(([label, read]) => [label, done.map((job) => short(read(job)))])
    .filter(([, cells]) => cells.some((cell) => cell !== "–"))
    .map(([label, cells]) =>
      make("tr", { class: new Set(cells).size > 1 ? "differs" : false }, make("th", { scope: "row" }, label), ...cells.map((cell) => make("td", {}, cell))),
    );
  const head = make("tr", {}, make("th", { scope: "col" }, ""), ...done.map((job) => make("th", { scope: "col" }, `${letter(jobs.indexOf(job))}: ${title(job.resolved.guidance.method)}`)));
  byId("table").replaceChildren(
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Parameters and scores" }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body))),
  );
}

/** The scale, and whatever else is not as the method has it by default. */
function chosen(job) {
  const { method, ...parameters } = job.resolved.guidance;
  const usual = defaults(method);
  return Object.fromEntries(Object.entries(parameters).filter(([key, value]) => key === "scale" || value !== usual[key]));
}

const keys = (jobs, read) => [...new Set(jobs.flatMap((job) => Object.keys(read(job))))];

/** One plot per traced scalar, one line per arm. */
export function plots(jobs, found) {
  const labels = Object.assign({}, ...jobs.map((job) => traces(job.resolved.guidance.method)));
  const figures = Object.entries(labels).map(([key, about]) => {
    const lines = found
      .map((trace, index) => ({ index, points: (trace?.images[0]?.rows ?? []).map((row) => row[key]).filter((value) => typeof value === "number") }))
      .filter((line) => line.points.length > 1);
    return lines.length ? plot(about.label, lines) : null;
  });
  byId("plots").replaceChildren(...figures.filter(Boolean));
}

function plot(label, lines) {
  const all = lines.flatMap((line) => line.points);
  const [low, high] = [Math.min(...all, 0), Math.max(...all)];
  const x = (i, count) => 8 + (i / (count - 1)) * 284;
  const y = (value) => 132 - ((value - low) / (high - low || 1)) * 116;
  const drawn = lines.map((line) =>
    make("path", {
      "--arm": `var(--arm-${line.index})`,
      stroke: `var(--arm-${line.index})`,
      "stroke-dasharray": ["none", "6 3", "2 3", "8 3 2 3"][line.index],
      d: line.points.map((value, i) => `${i ? "L" : "M"}${x(i, line.points.length).toFixed(1)},${y(value).toFixed(1)}`).join(""),
    }),
  );
  const said = lines.map((line) => `${letter(line.index)} from ${short(line.points[0])} to ${short(line.points.at(-1))}`).join("; ");
  return make(
    "figure",
    {},
    make(
      "svg",
      { class: "plot", viewBox: "0 0 300 140", role: "img", "aria-label": `${label} over the steps: ${said}` },
      ...drawn,
      make("text", { x: 8, y: 12 }, short(high)),
      make("text", { x: 8, y: 128 }, short(low)),
    ),
    make("figcaption", {}, `${label}: ${said}`),
  );
}
