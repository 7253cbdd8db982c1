// What the server says of a comparison besides its cells, asked again as pictures are made.

import { useEffect, useState } from "../vendor/ui.js";
import { comparison, get } from "./api.js";

/** `{told}` or `{problem}` of `GET /v1/comparisons/{id}/{what}`, the last while a newer one comes; {} before. Another
    `version` asks again, none does not ask. */
export function useTold(id, what, version) {
  const [state, set] = useState({});
  useEffect(() => {
    if (!version) return undefined;
    let stale = false;
    const keep = (answer) => stale || set({ id, ...answer });
    get(`${comparison(id)}/${what}`).then((told) => keep({ told }), (problem) => keep({ problem }));
    return () => (stale = true);
  }, [id, what, version]);
  return state.id === id ? state : {};
}
