// The service's HTTP contract, as far as these pages use it.

import { signal } from "../vendor/ui.js";
import { root } from "./route.js";

/** An answer that says what is wrong; `errors` names the places: [{pointer, detail}]. */
export class Problem extends Error {
  constructor(body, status) {
    const report = status >= 500 && body?.request_id ? ` (request ${body.request_id})` : "";
    super((body?.detail ?? `the server answered ${status}`) + report);
    this.status = status;
    this.errors = body?.errors ?? [];
  }
}

/** Who is signed in: {name, scopes}; name is null where no key is asked for. null: nobody, undefined: not known. */
export const who = signal();

/** Ask who is signed in; what goes wrong besides is for the screens to tell. */
export const ask = () => get("/v1/session").then((told) => (who.value = told)).catch((problem) => (who.value = problem.status === 401 ? null : { name: null }));

export async function call(path, { method = "GET", body } = {}) {
  const headers = { "X-Requested-With": "lodestar-page" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(root + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Problem({ detail: "The server does not answer; is `make serve` still running?" });
  }
  const told = await answer.json().catch(() => null);
  if (answer.status === 401) who.value = null;
  if (!answer.ok) throw new Problem(told, answer.status);
  return told;
}

export const get = (path) => call(path);
export const post = (path, body) => call(path, { method: "POST", body });
export const comparison = (id) => `/v1/comparisons/${encodeURIComponent(id)}`;

/** Methods, samplers and models; null until they are there. */
export const catalogue = signal(null);
let asked;

export function loadCatalogue() {
  asked ??= Promise.all(["guidance", "samplers", "models", "metrics"].map((name) => get(`/v1/${name}`)))
    .then(([guidance, samplers, models, metrics]) => {
      catalogue.value = {
        methods: Object.fromEntries(guidance.data.map((method) => [method.id, method])),
        samplers: samplers.data,
        models: models.data,
        metrics: metrics.data,
        scores: Object.fromEntries(metrics.data.flatMap((metric) => metric.scores).map((score) => [score.name, score])),
      };
      return catalogue.value;
    })
    .catch((problem) => {
      asked = undefined;
      throw problem;
    });
  return asked;
}
