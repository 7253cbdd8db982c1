// The frame of every screen: header, theme, shortcuts, what is said; and which screen is shown.

import { Fragment, html, render, signal, useEffect, useErrorBoundary, useRef } from "./vendor/ui.js";
import { path, root, url } from "./lib/route.js";
import { ask, call, who } from "./lib/api.js";
import { said, say, toast } from "./lib/say.js";
import { SignIn } from "./widgets/sign-in.js";
import { Help, help, listen } from "./lib/keys.js";

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

async function show(shown) {
  if (who.value === undefined) await ask();
  if (screen.value?.path === shown) return;
  const [pattern, name] = SCREENS.find(([known]) => known.test(shown)) ?? SCREENS[0];
  const [, id] = pattern.exec(shown) ?? [];
  const module = await import(`./pages/${name}.js`).catch(() => ({ default: Unreachable }));
  if (path() === shown) screen.value = { Page: module.default, id, path: shown };
}

const Unreachable = () => html`<div class="stack"><h1 tabindex="-1">This screen could not be loaded</h1>
  <p>The server does not answer (is <code>make serve</code> still running?), or it is newer than what this tab has loaded.</p>
  <div><button class="primary" onClick=${() => location.reload()}>Load it again</button></div></div>`;

function Header() {
  const here = path();
  return html`<header class="top"><div class="bar">
    <a class="brand" href="${root}/"><img src="${root}/static/icon.svg" alt="" width="24" height="24" />Lodestar</a>
    <nav class="main bar" aria-label="Main">
      ${LINKS.map(([href, text]) => html`<a href="${root}${href}" aria-current=${here === href ? "page" : null}>${text}</a>`)}
      <a href="${root}/docs">API</a>
    </nav>
    <div class="bar push">
      ${who.value?.name && html`<button class="plain" onClick=${leave}>Sign out <span class="sr">of </span>${who.value.name}</button>`}
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
    const first = shown === null || (Body.first ??= shown) === shown;
    return first || !main.current ? undefined : headed(main.current);
  }, [shown]);
  if (who.value === null) return html`<main id="main" tabindex="-1"><${SignIn} /></main>`;
  return html`<main id="main" ref=${main} tabindex="-1">
    ${error ? html`<h1 tabindex="-1">This page broke</h1><p>${error.message}. Reload it; if that does not help, the browser's console says where.</p>`
      : shown ? html`<${shown.Page} key=${shown.path} id=${shown.id} />` : html`<h1>Loading</h1>`}
  </main>`;
}

/** A new screen begins at its heading, also where that of its loading gives way to its own. Returns how to end it. */
function headed(main) {
  let heading = null;
  const find = () => {
    if (heading?.isConnected) return;
    const free = !heading || document.activeElement === document.body;
    heading = main.querySelector("h1");
    if (free) heading?.focus({ preventScroll: true });
  };
  find();
  const watch = new MutationObserver(find);
  watch.observe(main, { childList: true, subtree: true });
  return () => watch.disconnect();
}

const leave = () => call("/v1/session", { method: "DELETE" }).then(() => (who.value = null)).catch((problem) => say(problem.message));

function Toast() {
  const shown = toast.value;
  return html`<div id="toast" role="region" aria-label="Message">${shown && html`<div>${shown.text}
    ${shown.button && html`<button onClick=${() => { toast.value = null; shown.button.act(); }}>${shown.button.label}</button>`}</div>`}</div>
    <p class="sr" role="status" aria-live="polite">${said.value}</p>`;
}

const App = () => html`<${Fragment}><${Header} /><${Body} /><${Toast} /><${Help} /><//>`;

listen();
render(html`<${App} />`, document.getElementById("app"));
url.subscribe(() => show(path()));
