// A service that asks for keys: one is exchanged for a cookie, which this page's scripts never see.

import { html, useEffect, useRef, useState } from "../vendor/ui.js";
import { post, who } from "../lib/api.js";
import { Field } from "./field.js";

export function SignIn() {
  const [problem, tell] = useState(null);
  const form = useRef();
  useEffect(() => {
    document.title = "Sign in · Lodestar";
    form.current.elements.key.focus();
  }, []);
  const enter = async (event) => {
    event.preventDefault();
    try {
      who.value = await post("/v1/session", { key: form.current.elements.key.value });
    } catch (error) {
      tell(error);
      form.current.elements.key.select();
    }
  };
  const errors = problem ? (problem.errors.length ? problem.errors : [{ pointer: "/key", detail: problem.message }]) : [];
  return html`<form class="card stack sign-in" ref=${form} onSubmit=${enter}>
    <h1 tabindex="-1">Sign in</h1>
    <p>This service asks for an API key. Whoever runs it makes one with <code>lodestar keys create NAME</code>.</p>
    <${Field} label="API key" at="/key" errors=${errors}>${(attributes) => html`<input ...${attributes} name="key" type="password" autocomplete="current-password" placeholder="lds_…" required />`}<//>
    <div><button class="primary">Sign in</button></div>
  </form>`;
}
