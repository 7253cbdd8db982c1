// What the page says to a person: one polite live region, one toast, numbers in words.

import { signal } from "../vendor/ui.js";

export const said = signal("");
export const toast = signal(null);
let timer;

/** Announce without showing; the last one wins. */
export const announce = (text) => (said.value = text);

/** Show for a while, and as long as it is pointed at or has the focus: `say("Deleted.", { label: "Undo", act, otherwise })`. */
export function say(text, button = null, seconds = 6) {
  end();
  toast.value = { text, button };
  announce(text);
  timer = setTimeout(function due() {
    if (document.querySelector("#toast:is(:hover, :focus-within)")) timer = setTimeout(due, 1000);
    else end();
  }, seconds * 1000);
}

/** Nobody pressed its button. */
function end() {
  clearTimeout(timer);
  const ended = toast.value;
  toast.value = null;
  ended?.button?.otherwise?.();
}

/** A number with three significant digits. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return typeof value === "object" ? JSON.stringify(value) : String(value);
  if (Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(3)));
}

export const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
export const duration = (seconds) => (seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`);
export function bytes(number) {
  const power = number < 1e3 ? 0 : Math.min(4, Math.floor(Math.log10(number) / 3));
  return `${short(number / 1000 ** power)} ${["B", "kB", "MB", "GB", "TB"][power]}`;
}
export const percent = (share) => `${Math.round(share * 100)} %`;

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied.`);
  } catch {
    say(`${what} could not be copied: the browser does not allow it here.`);
  }
}
