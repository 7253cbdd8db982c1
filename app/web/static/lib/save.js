// What is shown, as a file to take along.

/** RFC 4180. */
export const csv = (rows) => rows.map((row) => row.map((cell) => (/[",\n]/.test(String(cell ?? "")) ? `"${String(cell).replaceAll('"', '""')}"` : cell ?? "")).join(",")).join("\r\n");

const LOOKS = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "paint-order", "opacity", "font-family", "font-size", "font-weight", "text-anchor"];

/** A plot of the page as a file of its own, looking as it does here: our style sheet is not where it goes. */
export function picture(svg, title) {
  const copy = svg.cloneNode(true);
  const [here, there] = [svg, copy].map((one) => [one, ...one.querySelectorAll("*")]);
  here.forEach((one, index) => {
    const look = getComputedStyle(one);
    for (const name of LOOKS) there[index].setAttribute(name, look.getPropertyValue(name));
    ["class", "style", "tabindex", "href"].forEach((name) => there[index].removeAttribute(name));
  });
  const [, , width, height] = svg.getAttribute("viewBox").split(" ");
  const paper = document.createElementNS(copy.namespaceURI, "rect");
  const name = document.createElementNS(copy.namespaceURI, "title");
  Object.entries({ width, height, fill: getComputedStyle(svg.closest(".card")).backgroundColor }).forEach((pair) => paper.setAttribute(...pair));
  name.textContent = title;
  copy.prepend(name, paper);
  Object.entries({ width, height }).forEach((pair) => copy.setAttribute(...pair));
  return new XMLSerializer().serializeToString(copy);
}

export function save(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name.replace(/[^\w.-]+/g, "-");
  link.click();
  URL.revokeObjectURL(link.href);
}
