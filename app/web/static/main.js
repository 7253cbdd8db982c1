// The frame of every screen: header, theme, shortcuts, what is said; and which screen is shown.

import { Fragment, html, render, signal, useEffect, useErrorBoundary, useRef } from "/static/vendor/ui.js";
import { url } from "/static/lib/route.js";
import { said, toast } from "/static/lib/say.js";
import { Help, help, listen } from "/static/lib/keys.js";

const SCREENS = [
  [/^\/$/, "compose"],
  [/^\/compare\/([^/]+)$/, "compare"],
  [/^\/compare\/([^/]+)\/vote$/, "vote"],
  [/^\/compare\/([^/]+)\/results$/, "results"],
  [/^\/library$/, "library"],
  [/^\/system$/, "system"],
];
const LINKS = [["/", "Compose"], ["/library", "Library"], ["/system", "System"]];
const THEMES = { system: "System theme", light: "Light theme", dark: "Dark theme" };

const screen = signal(null);
const theme = signal(localStorage.getItem("theme") ?? "system");

function setTheme(name) {
  theme.value = name;
  localStorage.setItem("theme", name);
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}
setTheme(theme.value);

async function show(path) {
  const [pattern, name] = SCREENS.find(([known]) => known.test(path)) ?? SCREENS[0];
  const [, id] = pattern.exec(path) ?? [];
  const module = await import(`/static/pages/${name}.js`);
  if (url.value.pathname === path) screen.value = { Page: module.default, id, path };
}

function Header() {
  const here = url.value.pathname;
  return html`<header class="top"><div class="bar">
    <a class="brand" href="/"><img src="/static/icon.svg" alt="" width="24" height="24" />Lodestar</a>
    <nav class="main bar" aria-label="Main">
      ${LINKS.map(([href, text]) => html`<a href=${href} aria-current=${here === href ? "page" : null}>${text}</a>`)}
      <a href="/docs">API</a>
    </nav>
    <div class="bar push">
      <button class="plain" onClick=${() => (help.value = true)}>Shortcuts <kbd>?</kbd></button>
      <select aria-label="Theme" value=${theme.value} onChange=${(event) => setTheme(event.target.value)}>
        ${Object.entries(THEMES).map(([name, text]) => html`<option value=${name} selected=${name === theme.value}>${text}</option>`)}
      </select>
    </div>
  </div></header>`;
}

function Body() {
  const [error] = useErrorBoundary((problem) => console.error(problem));
  const main = useRef();
  const shown = screen.value;
  useEffect(() => {
    if (shown && shown.path !== Body.first) main.current?.querySelector("h1")?.focus();
    Body.first ??= shown?.path;
  }, [shown]);
  return html`<main id="main" ref=${main} tabindex="-1">
    ${error ? html`<h1 tabindex="-1">This page broke</h1><p>${error.message}. Reload it; if that does not help, the browser's console says where.</p>`
      : shown ? html`<${shown.Page} key=${shown.path} id=${shown.id} />` : html`<h1>Loading</h1>`}
  </main>`;
}

function Toast() {
  const shown = toast.value;
  return html`<div id="toast">${shown && html`<div>${shown.text}
    ${shown.button && html`<button onClick=${() => { toast.value = null; shown.button.act(); }}>${shown.button.label}</button>`}</div>`}</div>
    <p class="sr" role="status" aria-live="polite">${said.value}</p>`;
}

const App = () => html`<${Fragment}><${Header} /><${Body} /><${Toast} /><${Help} /><//>`;

listen();
render(html`<${App} />`, document.getElementById("app"));
url.subscribe(({ pathname }) => show(pathname));
