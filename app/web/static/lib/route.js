// The address is the state: what is shown can be shared, and the back button works.

import { computed, signal } from "../vendor/ui.js";

/** What comes before every path of the service: "" or, behind a proxy, say "/lodestar". */
export const root = new URL("../..", import.meta.url).pathname.slice(0, -1);

const WRITE_MS = 200;
let timer = null;

export const url = signal(new URL(location.href));

const parameters = {};

/** A query parameter; reading it in a component subscribes to it, and to no other. */
export function query(name, fallback = "") {
  parameters[name] ??= computed(() => url.value.searchParams.get(name));
  return parameters[name].value ?? fallback;
}

/** The path of this address below the root. */
export const path = () => url.value.pathname.slice(root.length);

/** An address that the server gave, as one of this page's own origin: a proxy may have hidden how we came here. */
export const local = (address) => {
  const { pathname, search } = new URL(address, location.href);
  return pathname + search;
};

/** Go to another screen. */
export const go = (to) => visit(root + to);

function visit(href) {
  write();
  history.pushState(null, "", href);
  url.value = new URL(location.href);
  scrollTo(0, 0);
}

/** This address with other query parameters; null removes one. */
export function changed(changes) {
  const next = new URL(url.value);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") next.searchParams.delete(name);
    else next.searchParams.set(name, value);
  }
  return next;
}

/** Change query parameters. The page stays where it is. */
export function put(changes, push = false) {
  const next = changed(changes);
  if (next.href === url.value.href) return;
  if (push) {
    write();
    history.pushState(null, "", next);
  }
  url.value = next;
  // Browsers take some 200 changes of the address in half a minute; a slider makes more.
  timer ??= setTimeout(write, WRITE_MS);
}

function write() {
  clearTimeout(timer);
  timer = null;
  if (location.href !== url.value.href) history.replaceState(null, "", url.value);
}
addEventListener("pagehide", write);

addEventListener("popstate", () => {
  clearTimeout(timer);
  timer = null;
  url.value = new URL(location.href);
});

addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (link.origin !== location.origin || link.target || link.hasAttribute("download")) return;
  if (!link.pathname.startsWith(`${root}/`) || /^\/(v1|docs|openapi|static|metrics)/.test(link.pathname.slice(root.length)) || link.hash) return;
  event.preventDefault();
  if (link.href !== url.value.href) visit(link.href);
});
