// The arms of a comparison: a guidance method each, with a form made from its JSON Schema.

import { byId, make } from "/static/dom.js";

export const MOST = 4;
let methods = {};
let arms = [];
let serial = 0;

export function setMethods(list) {
  methods = Object.fromEntries(list.map((method) => [method.id, method]));
}

export const title = (id) => methods[id]?.title ?? id;
export const defaults = (id) => methods[id]?.defaults ?? {};
export const traces = (id) => methods[id]?.traces ?? {};

/** Set the arms: a list of guidance objects, `{method, ...parameters}`. */
export function setArms(list) {
  arms = list.filter((guidance) => methods[guidance.method]).slice(0, MOST).map(withId);
  if (!arms.length) arms = [withId({ method: "cfg" })];
  draw();
}

export const guidances = () => arms.map(({ id: _, ...guidance }) => guidance);

export function addArm() {
  const used = new Set(arms.map((arm) => arm.method));
  const next = ["cfgpp", "apg", "none", ...Object.keys(methods)].find((id) => methods[id] && !used.has(id));
  setArms([...guidances(), { method: next ?? "cfg" }]);
}

/** Show what the server found wrong with arm `index`. */
export function showErrors(index, errors) {
  const box = byId("arms").children[index]?.querySelector(".error");
  if (box) box.textContent = errors.map((error) => `${error.pointer.split("/").pop()}: ${error.detail}`).join("; ");
}

const withId = (guidance) => ({ id: serial++, ...guidance });

function draw() {
  byId("arms").replaceChildren(...arms.map(armForm));
  byId("add").hidden = arms.length >= MOST;
}

function armForm(arm, index) {
  const method = methods[arm.method];
  const name = `arm-${arm.id}`;
  const choose = make(
    "select",
    { id: name, change: (event) => change(index, { method: event.target.value }) },
    ...Object.values(methods).map((one) =>
      make("option", { value: one.id, selected: one.id === arm.method }, one.title),
    ),
  );
  const fields = Object.entries(method.schema.properties).filter(([key]) => key !== "method");
  const plain = fields.filter(([, schema]) => !schema.advanced);
  const advanced = fields.filter(([, schema]) => schema.advanced);
  const inputs = (some) => some.map(([key, schema]) => input(arm, key, schema, method.defaults[key], name));
  return make(
    "fieldset",
    { class: "arm", "--arm": `var(--arm-${index})` },
    make("legend", {}, `Arm ${"ABCD"[index]}`),
    arms.length > 1
      ? make("button", { type: "button", class: "quiet", click: () => remove(index) }, `Remove ${"ABCD"[index]}`)
      : null,
    make(
      "div",
      { class: "fields" },
      make("label", { for: name }, "Method"),
      choose,
      make("p", { class: "summary" }, method.summary),
      make("div", { class: "row" }, ...inputs(plain)),
      advanced.length ? make("details", {}, make("summary", {}, "More"), make("div", { class: "row" }, ...inputs(advanced))) : null,
      make("p", { class: "error" }),
    ),
  );
}

function input(arm, key, schema, fallback, prefix) {
  const id = `${prefix}-${key}`;
  const options = schema.anyOf ?? [schema];
  const kind = options.find((option) => option.type !== "null") ?? schema;
  const value = arm[key] ?? fallback;
  const hint = [schema.description, fallback != null ? `default ${fallback}` : null].filter(Boolean).join("; ");
  const shared = { id, title: hint };
  const label = make("label", { for: id, title: hint }, key.replaceAll("_", " "));
  const choices = kind.enum;
  if (choices) {
    const select = make(
      "select",
      { ...shared, change: (event) => (arm[key] = event.target.value) },
      ...choices.map((choice) => make("option", { value: choice, selected: choice === value }, String(choice))),
    );
    return make("div", {}, label, select);
  }
  if (kind.type === "boolean") {
    const box = make("input", { ...shared, type: "checkbox", checked: value === true, change: (event) => (arm[key] = event.target.checked) });
    return make("div", {}, label, box);
  }
  if (kind.type !== "number" && kind.type !== "integer") return null;
  const field = make("input", {
    ...shared,
    type: "number",
    step: kind.type === "integer" ? 1 : "any",
    min: kind.minimum,
    max: kind.maximum,
    value,
    input: (event) => {
      if (event.target.value === "") delete arm[key];
      else arm[key] = Number(event.target.value);
    },
  });
  return make("div", {}, label, field);
}

function change(index, guidance) {
  arms[index] = withId(guidance);
  draw();
  byId(`arm-${arms[index].id}`).focus();
}

function remove(index) {
  arms.splice(index, 1);
  draw();
  byId("add").focus();
}
