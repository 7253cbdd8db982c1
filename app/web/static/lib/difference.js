// How two pictures differ, pixel by pixel. Pure functions on RGBA bytes, tested against numpy.

export const KINDS = {
  rgb: { title: "absolute RGB", unit: "mean of |A − B| over R, G, B; 0 to 255", scale: 64 },
  oklab: { title: "OKLab distance", unit: "perceptual; 0 to about 1", scale: 0.25 },
  lightness: { title: "signed lightness", unit: "OKLab L of B − A; −1 to 1", scale: 0.25, signed: true },
};

/** A Float32Array with one value per pixel. */
export function map(kind, a, b) {
  const out = new Float32Array(a.length / 4);
  for (let i = 0, p = 0; p < out.length; i += 4, p++) {
    if (kind === "rgb") out[p] = (Math.abs(a[i] - b[i]) + Math.abs(a[i + 1] - b[i + 1]) + Math.abs(a[i + 2] - b[i + 2])) / 3;
    else {
      const [l, m, s] = oklab(a[i], a[i + 1], a[i + 2]);
      const [u, v, w] = oklab(b[i], b[i + 1], b[i + 2]);
      out[p] = kind === "lightness" ? u - l : Math.hypot(l - u, m - v, s - w);
    }
  }
  return out;
}

const LINEAR = Float64Array.from({ length: 256 }, (_, c) => (c <= 10.31475 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));

export function oklab(red, green, blue) {
  const [r, g, b] = [LINEAR[red], LINEAR[green], LINEAR[blue]];
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

/** Numbers of a pair: of the map its mean, 99th percentile and maximum by size; of the pixels PSNR. */
export function numbers(values, a, b) {
  const sizes = Float32Array.from(values, Math.abs).sort();
  let sum = 0;
  let squares = 0;
  for (const size of sizes) sum += size;
  for (let i = 0; i < a.length; i++) if (i % 4 !== 3) squares += (a[i] - b[i]) ** 2;
  const mse = squares / (a.length * 0.75);
  return {
    mean: sum / sizes.length,
    p99: sizes[Math.min(sizes.length - 1, Math.ceil(0.99 * sizes.length) - 1)],
    most: sizes.at(-1),
    psnr: mse ? 10 * Math.log10(255 ** 2 / mse) : Infinity,
  };
}

const HEAT = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];
const SIGNED = [[33, 102, 172], [247, 247, 247], [178, 24, 43]];

/** The map as RGBA; `scale` is the value that gets the last colour. */
export function paint(values, scale, signed) {
  const colours = signed ? SIGNED : HEAT;
  const out = new Uint8ClampedArray(values.length * 4);
  for (let p = 0; p < values.length; p++) {
    const share = Math.min(1, Math.max(0, signed ? (values[p] / scale + 1) / 2 : values[p] / scale)) * (colours.length - 1);
    const low = Math.min(colours.length - 2, Math.floor(share));
    for (let c = 0; c < 3; c++) out[p * 4 + c] = colours[low][c] + (colours[low + 1][c] - colours[low][c]) * (share - low);
    out[p * 4 + 3] = 255;
  }
  return out;
}
