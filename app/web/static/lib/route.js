// The address is the state: what is shown can be shared, and the back button works.

import { signal } from "../vendor/ui.js";

/** What comes before every path of the service: "" or, behind a proxy, say "/lodestar". */
export const root = new URL("../..", import.meta.url).pathname.slice(0, -1);

export const url = signal(new URL(location.href));

/** A query parameter; reading it in a component subscribes to it. */
export const query = (name, fallback = "") => url.value.searchParams.get(name) ?? fallback;

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
  history.pushState(null, "", href);
  url.value = new URL(location.href);
  scrollTo(0, 0);
}

/** Change query parameters; null removes one. The page stays where it is. */
export function put(changes, push = false) {
  const next = new URL(location.href);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") next.searchParams.delete(name);
    else next.searchParams.set(name, value);
  }
  if (next.href === location.href) return;
  history[push ? "pushState" : "replaceState"](null, "", next);
  url.value = next;
}

addEventListener("popstate", () => (url.value = new URL(location.href)));

addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  if (link.origin !== location.origin || link.target || link.hasAttribute("download")) return;
  if (!link.pathname.startsWith(`${root}/`) || /^\/(v1|docs|openapi|static|metrics)/.test(link.pathname.slice(root.length)) || link.hash) return;
  event.preventDefault();
  if (link.href !== location.href) visit(link.href);
});
