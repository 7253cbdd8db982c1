// Building the page: elements without a framework.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: `make("p", { class: "hint" }, "text", child)`. Functions become listeners. */
export function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "text", "line"].includes(tag);
  const element = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** A number for a person: three significant digits. */
export function short(value) {
  if (typeof value !== "number") return String(value ?? "–");
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(3)));
}
