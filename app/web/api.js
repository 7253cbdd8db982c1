// The service's HTTP contract, as far as this page uses it.

/** An answer that says what is wrong; `errors` names the fields. */
export class Problem extends Error {
  constructor(body, status) {
    super(body?.detail ?? `the server answered ${status}`);
    this.errors = body?.errors ?? [];
  }
}

async function call(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Problem({ detail: "the server does not answer; is `make serve` still running?" });
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Problem(body, answer.status);
  return body;
}

export const list = async (what) => (await call(`/v1/${what}`)).data;
export const trace = (id) => call(`/v1/jobs/${id}/trace`);
export const cancel = (id) => call(`/v1/jobs/${id}/cancel`, { method: "POST" });

export const create = (spec) =>
  call("/v1/jobs", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(spec),
  });

const ENDS = ["completed", "failed", "canceled", "expired"];

/** Follow a job to its end; `on(name, data)` hears every event. Resolves with the whole job. */
export function follow(id, on) {
  return new Promise((resolve) => {
    const source = new EventSource(`/v1/jobs/${id}/events`);
    for (const name of ["snapshot", "queued", "start", "progress", "preview", "guidance", "image", ...ENDS]) {
      source.addEventListener(name, (event) => {
        const data = JSON.parse(event.data);
        on(name, data);
        if (!ENDS.includes(name)) return;
        source.close();
        resolve(data);
      });
    }
  });
}
