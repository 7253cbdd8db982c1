// What the page says to a person: one polite live region, one toast, numbers in words.

import { signal } from "../vendor/ui.js";

export const said = signal("");
export const toast = signal(null);
let timer;

/** Announce without showing; the last one wins. */
export const announce = (text) => (said.value = text);

/** Show for a while: `say("Deleted.", { label: "Undo", act })`. */
export function say(text, button = null, seconds = 6) {
  clearTimeout(timer);
  toast.value = { text, button };
  announce(text);
  timer = setTimeout(() => (toast.value = null), seconds * 1000);
}

/** A number with three significant digits. */
export function short(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return typeof value === "object" ? JSON.stringify(value) : String(value);
  if (Number.isInteger(value)) return String(value);
  return String(Number(value.toPrecision(3)));
}

export const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
export const percent = (share) => `${Math.round(share * 100)} %`;

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied.`);
  } catch {
    say(`${what} could not be copied: the browser does not allow it here.`);
  }
}
