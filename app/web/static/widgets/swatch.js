// An arm's mark: a colour and a dash pattern, the same in forms, tables and plots.

import { html } from "../vendor/ui.js";

export const DASHES = ["none", "7 3", "2 3", "9 3 2 3", "4 2", "1 2", "12 4", "6 2 1 2"];

export const Swatch = ({ arm }) => html`<svg class="swatch" viewBox="0 0 28 8" aria-hidden="true" style=${{ "--arm": `var(--arm-${arm})` }}>
  <line x1="0" x2="28" y1="4" y2="4" stroke-dasharray=${DASHES[arm]} /></svg>`;
