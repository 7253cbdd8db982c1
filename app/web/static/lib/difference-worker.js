// Differences are computed here, so that the page stays smooth: {id, kind, a, b, width, fit} -> {id, told, scale, painted}.

import { KINDS, map, numbers, paint } from "./difference.js";
import { ssim } from "./ssim.js";

addEventListener("message", ({ data: { id, kind, a, b, width, fit } }) => {
  const values = map(kind, a, b);
  const told = { ...numbers(values, a, b), ssim: ssim(a, b, width) };
  const scale = fit ? told.p99 || told.most || KINDS[kind].scale : KINDS[kind].scale;
  const painted = paint(values, scale, KINDS[kind].signed);
  postMessage({ id, told, scale, painted }, [painted.buffer]);
});
