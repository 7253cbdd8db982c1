// A method's JSON Schema as a flat list of fields, those of nested objects too. Pure functions.

const KINDS = ["number", "integer", "boolean", "string"];

/** What kind of plain value a schema takes; undefined where it takes none. */
export const kindOf = (schema) => (schema.anyOf ?? [schema]).find((one) => KINDS.includes(one.type));

/** Every field that can be filled in: {path, kind, schema, usual, advanced}. `value`: what is set so far. */
export function fieldsOf(schema, usual, value) {
  return walk(schema, schema.$defs ?? {}, usual, value, [], false).filter(({ path }) => path.join() !== "method");
}

function walk(schema, defs, usual, value, at, advanced) {
  return Object.entries(schema.properties).flatMap(([name, property]) => {
    const path = [...at, name];
    const inner = defs[property.$ref?.split("/").at(-1)];
    const [own, given] = [usual?.[name], value?.[name]];
    if (property.discriminator) {
      const { mapping, propertyName } = property.discriminator;
      const chosen = given?.[propertyName] ?? own?.[propertyName];
      const choice = { path: [...path, propertyName], kind: { type: "string", enum: Object.keys(mapping) }, schema: property, usual: own?.[propertyName], advanced };
      const rest = walk(defs[mapping[chosen].split("/").at(-1)], defs, own?.[propertyName] === chosen ? own : {}, given, path, advanced);
      return [choice, ...rest.filter((field) => field.path.at(-1) !== propertyName)];
    }
    if (inner?.properties) return walk(inner, defs, own, given, path, true);
    const kind = kindOf(property);
    return kind ? [{ path, kind, schema: property, usual: own ?? property.default, advanced: advanced || Boolean(property.advanced) }] : [];
  });
}

/** A slider over a number that has two bounds; null where it has not. Positions are values of whole numbers, and
 * hundredths of the range of others, finer towards its low end where the usual value lies in the lowest tenth. */
export function slider({ type, minimum, maximum, exclusiveMinimum, exclusiveMaximum }, usual) {
  const [low, high] = [minimum ?? exclusiveMinimum, maximum ?? exclusiveMaximum];
  if (low === undefined || high === undefined) return null;
  if (type === "integer") return { min: low, max: high, at: (value) => value, read: (position) => position };
  const share = (usual - low) / (high - low);
  const bend = share > 0 && share <= 0.1 ? 3 : 1;
  return {
    min: minimum === undefined ? 1 : 0,
    max: maximum === undefined ? 99 : 100,
    at: (value) => Math.round(100 * (Math.max(0, value - low) / (high - low)) ** (1 / bend)),
    read: (position) => Number((low + (high - low) * (position / 100) ** bend).toPrecision(3)),
  };
}

export const read = (value, path) => path.reduce((one, name) => one?.[name], value);

/** `value` with another value at `path`; `usual` gives what an object on the way holds besides. */
export function write(value, path, next, usual) {
  const [name, ...rest] = path;
  if (!rest.length) return name === "method" ? { method: next } : { ...value, [name]: next };
  return { ...value, [name]: write(value?.[name] ?? usual?.[name], rest, next, usual?.[name]) };
}

/** Without what was left empty. */
export function given(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== "").map(([name, one]) => [name, given(one)]));
}
