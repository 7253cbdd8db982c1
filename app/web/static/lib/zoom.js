// One zoom for all pictures of a comparison. The centre is a fraction of the picture, so sizes may differ.

import { effect, signal } from "../vendor/ui.js";

export const MOST = 16;
export const zoom = signal({ z: 1, x: 0.5, y: 0.5 });

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/** Set zoom `z` and centre (x, y), kept inside the picture. */
export function look({ z = zoom.value.z, x = zoom.value.x, y = zoom.value.y }) {
  z = clamp(z, 1, MOST);
  const half = 0.5 / z;
  zoom.value = { z, x: clamp(x, half, 1 - half), y: clamp(y, half, 1 - half) };
}

/** Zoom by `factor`; the point at (fx, fy) of the view, in [0, 1], stays where it is. */
export function zoomBy(factor, fx = 0.5, fy = 0.5) {
  const { z, x, y } = zoom.value;
  const next = clamp(z * factor, 1, MOST);
  look({ z: next, x: x + (fx - 0.5) * (1 / z - 1 / next), y: y + (fy - 0.5) * (1 / z - 1 / next) });
}

/** Move the centre by a share of what is seen. */
export const panBy = (dx, dy) => look({ x: zoom.value.x + dx / zoom.value.z, y: zoom.value.y + dy / zoom.value.z });

// Views inherit it, so none is drawn anew.
effect(() => {
  const { style, dataset } = document.documentElement;
  const { z, x, y } = zoom.value;
  style.setProperty("--z", z);
  style.setProperty("--x", `${(0.5 - x * z) * 100}%`);
  style.setProperty("--y", `${(0.5 - y * z) * 100}%`);
  dataset.zoom = z > 2 ? "far" : z > 1 ? "near" : "none";
});

export const written = ({ z, x, y }) => (z === 1 ? "" : [z, x, y].map((value) => Number(value.toFixed(4))).join(","));

export function read(text) {
  const [z, x, y] = text.split(",").map(Number);
  look(z >= 1 && [x, y].every(Number.isFinite) ? { z, x, y } : { z: 1, x: 0.5, y: 0.5 });
}
