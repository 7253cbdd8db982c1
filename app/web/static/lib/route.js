// The address is the state: what is shown can be shared, and the back button works.

import { signal } from "/static/vendor/ui.js";

export const url = signal(new URL(location.href));

/** A query parameter; reading it in a component subscribes to it. */
export const query = (name, fallback = "") => url.value.searchParams.get(name) ?? fallback;

/** Go to another screen. */
export function go(href) {
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
  if (/^\/(v1|docs|openapi|static|metrics)/.test(link.pathname) || link.hash) return;
  event.preventDefault();
  if (link.href !== location.href) go(link.href);
});
