// Prompts out of a text or CSV file, or out of what was pasted. Pure functions.

const HEADS = /^(prompts?|text|caption)$/i;

/** RFC 4180: rows of cells. */
export function cells(text) {
  const rows = [[]];
  let [cell, quoted] = ["", false];
  const end = () => { rows.at(-1).push(cell); cell = ""; };
  for (let at = 0; at < text.length; at++) {
    const sign = text[at];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (text[at + 1] === '"') cell += text[++at];
      else quoted = false;
    } else if (sign === '"' && !cell) quoted = true;
    else if (sign === ",") end();
    else if (sign === "\n") { end(); rows.push([]); }
    else if (sign !== "\r") cell += sign;
  }
  end();
  return rows.filter((row) => row.some((one) => one.trim()));
}

/** Prompts, one a line: of a table its column called prompt, or its first; null where the text is no table. */
export function column(text, known = false) {
  const [head, ...rest] = cells(text);
  const place = head?.findIndex((name) => HEADS.test(name.trim())) ?? -1;
  if (place < 0 && !known) return null;
  const rows = place < 0 ? [head ?? [], ...rest] : rest;
  return rows.map((row) => (row[Math.max(0, place)] ?? "").replace(/\s+/g, " ").trim()).filter(Boolean).join("\n");
}
