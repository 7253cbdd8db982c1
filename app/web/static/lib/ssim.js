// Structural similarity of two pictures (Wang et al. 2004, doi:10.1109/TIP.2003.819861). Pure functions.

const RADIUS = 5;
const SIGMA = 1.5;
const C1 = (0.01 * 255) ** 2;
const C2 = (0.03 * 255) ** 2;
const WEIGHTS = normed(Array.from({ length: 2 * RADIUS + 1 }, (_, i) => Math.exp(-((i - RADIUS) ** 2) / (2 * SIGMA ** 2))));

function normed(weights) {
  const sum = weights.reduce((one, other) => one + other);
  return Float64Array.from(weights, (weight) => weight / sum);
}

/** Mean SSIM of the lumas (BT.601) of RGBA bytes where the whole window is inside; null for pictures smaller than it. */
export function ssim(a, b, width) {
  const height = a.length / 4 / width;
  if (Math.min(width, height) < WEIGHTS.length) return null;
  const [u, v] = [luma(a), luma(b)];
  const product = (one, other) => one.map((value, i) => value * other[i]);
  const [mu, mv, uu, vv, uv] = [u, v, product(u, u), product(v, v), product(u, v)].map((values) => blurred(values, width, height));
  let sum = 0;
  for (let i = 0; i < mu.length; i++) {
    const [uu_, vv_, uv_] = [uu[i] - mu[i] ** 2, vv[i] - mv[i] ** 2, uv[i] - mu[i] * mv[i]];
    sum += ((2 * mu[i] * mv[i] + C1) * (2 * uv_ + C2)) / ((mu[i] ** 2 + mv[i] ** 2 + C1) * (uu_ + vv_ + C2));
  }
  return sum / mu.length;
}

const luma = (rgba) => Float64Array.from({ length: rgba.length / 4 }, (_, p) => 0.299 * rgba[4 * p] + 0.587 * rgba[4 * p + 1] + 0.114 * rgba[4 * p + 2]);

/** The Gaussian mean around each pixel whose window is inside: first along rows, then along columns. */
function blurred(values, width, height) {
  const [inner, lines] = [width - 2 * RADIUS, height - 2 * RADIUS];
  const rows = new Float64Array(inner * height);
  const out = new Float64Array(inner * lines);
  for (let y = 0; y < height; y++) for (let x = 0; x < inner; x++) for (let k = 0; k < WEIGHTS.length; k++) rows[y * inner + x] += WEIGHTS[k] * values[y * width + x + k];
  for (let y = 0; y < lines; y++) for (let k = 0; k < WEIGHTS.length; k++) for (let x = 0; x < inner; x++) out[y * inner + x] += WEIGHTS[k] * rows[(y + k) * inner + x];
  return out;
}
