// One table of shortcuts: it acts, and it is the help. Single letters do nothing where letters are written.

import { html, signal, useEffect, useLayoutEffect, useRef } from "../vendor/ui.js";

export const help = signal(false);
const off = signal(localStorage.getItem("shortcuts") === "off");
const tables = new Set();
const WRITTEN = "input:not([type=radio], [type=checkbox], [type=range]), select, textarea, [contenteditable]";

/** Have `table` act while a component lives: { g: ["Grid", act], ... }. */
export function useKeys(table) {
  const latest = useRef(table);
  latest.current = table;
  useLayoutEffect(() => {
    tables.add(latest);
    return () => tables.delete(latest);
  }, []);
}

export function listen() {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest?.(WRITTEN) && event.key !== "Escape") return;
    if (event.target.closest?.("button, a, summary, svg, input") && (event.key === " " || event.key === "Enter" || event.key.startsWith("Arrow"))) return;
    if (off.value && event.key.length === 1) return;
    if (event.key === "?") {
      help.value = true;
      return;
    }
    for (const { current } of [...tables].reverse()) {
      const entry = current[event.key] ?? current[event.key.toLowerCase()];
      if (!entry) continue;
      event.preventDefault();
      entry[1](event);
      return;
    }
  });
}

export function Help() {
  const box = useRef();
  useEffect(() => {
    if (help.value) box.current.showModal();
    else box.current.close();
  }, [help.value]);
  const rows = [["?", ["This list"]], ...[...tables].flatMap(({ current }) => Object.entries(current))];
  return html`<dialog ref=${box} aria-labelledby="help-title" onClose=${() => (help.value = false)}>
    <div class="stack">
      <h2 id="help-title">Shortcuts here</h2>
      <dl class="keys">${rows.filter(([, entry]) => entry[0]).map(([key, [text]]) => html`<dt><kbd>${key === " " ? "Space" : key}</kbd></dt><dd>${text}</dd>`)}</dl>
      <label class="check"><input type="checkbox" checked=${!off.value} onChange=${(event) => {
        off.value = !event.target.checked;
        localStorage.setItem("shortcuts", off.value ? "off" : "on");
      }} />Single letters act as shortcuts</label>
      <form method="dialog"><button>Close</button></form>
    </div>
  </dialog>`;
}
