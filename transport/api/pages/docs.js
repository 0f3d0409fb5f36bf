// Renders /openapi.json. Text only ever becomes text nodes.
"use strict";

function element(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Descriptions have `code` and [links](/path) in them, and no other markup.
function prose(text) {
  const nodes = [];
  for (const part of (text || "").split(/(`[^`]*`|\[[^\]]*\]\(\/[^)]*\))/)) {
    const link = part.match(/^\[([^\]]*)\]\((\/[^)]*)\)$/);
    if (part.startsWith("`")) nodes.push(element("code", null, part.slice(1, -1)));
    else if (link) nodes.push(element("a", { href: link[2] }, link[1]));
    else if (part) nodes.push(part);
  }
  return element("span", null, ...nodes);
}

// What many calls share stands once, among the components.
let components = {};

function resolved(it) {
  if (!it || !it.$ref) return it;
  const [, kind, name] = it.$ref.match(/^#\/components\/([^/]+)\/(.+)$/);
  return components[kind][name];
}

function schemaName(schema) {
  if (!schema) return "any JSON";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.oneOf) return schema.oneOf.map(schemaName).join(" or ");
  const type = Array.isArray(schema.type) ? schema.type.filter((t) => t !== "null").join(" or ") : schema.type;
  if (type === "array") return "list of " + schemaName(schema.items);
  if (type === "object" && typeof schema.additionalProperties === "object") {
    return "object of " + schemaName(schema.additionalProperties);
  }
  if (schema.format && schema.format !== "double" && schema.format !== "int64") return type + " (" + schema.format + ")";
  return type || "any JSON";
}

function schemaType(schema) {
  const name = schemaName(schema);
  const refs = JSON.stringify(schema || {}).match(/#\/components\/schemas\/[A-Za-z0-9]+/g) || [];
  if (refs.length !== 1) return name;
  const target = refs[0].split("/").pop();
  const at = name.indexOf(target);
  return element("span", null, name.slice(0, at), element("a", { href: "#" + target }, target), name.slice(at + target.length));
}

function notes(schema, description) {
  const said = [];
  if (schema.enum) said.push("one of " + schema.enum.join(", "));
  if (schema.default !== undefined) said.push("default " + JSON.stringify(schema.default));
  if (schema.minimum !== undefined) said.push("at least " + schema.minimum);
  if (schema.maximum !== undefined) said.push("at most " + schema.maximum);
  return element("span", null, prose(description || schema.description), said.length ? " (" + said.join(", ") + ")" : "");
}

function table(rows) {
  return element("table", null, element("tbody", null, ...rows.map((cells) =>
    element("tr", null, ...cells.map((cell) => element("td", null, cell))))));
}

function contents(content) {
  return element("ul", null, ...Object.entries(content || {}).map(([type, media]) =>
    element("li", null, element("code", null, type), " ", schemaType(media.schema), ...examples(media))));
}

// Examples of problems are on their own page.
function examples(media) {
  const all = Object.values(media.examples || {}).filter((one) => !one.$ref);
  if (media.example !== undefined) all.push({ value: media.example });
  return all.map((one) => element("details", null, element("summary", null, one.summary || "Example"),
    element("pre", null, typeof one.value === "string" ? one.value : JSON.stringify(one.value, null, 2))));
}

function operation(method, path, op) {
  const parts = [];
  if (op.description) parts.push(element("p", null, prose(op.description)));
  if (op.parameters && op.parameters.length) {
    parts.push(element("h4", null, "Parameters"), table(op.parameters.map((p) => [
      element("code", p.required ? { class: "required" } : null, p.name), p.in, schemaType(p.schema),
      notes(p.schema || {}, p.description)])));
  }
  if (op.requestBody) parts.push(element("h4", null, "Body"), contents(op.requestBody.content));
  parts.push(element("h4", null, "Answers"), table(Object.entries(op.responses || {}).map(([status, shared]) => {
    const answer = resolved(shared);
    return [element("code", null, status), prose(answer.description), contents(answer.content)];
  })));
  return element("details", { id: op.operationId || method + path },
    element("summary", null, element("code", { class: "method" }, method.toUpperCase()), element("code", null, path), op.summary || ""),
    ...parts);
}

function shape(name, schema) {
  const required = schema.required || [];
  return element("details", { id: name }, element("summary", null, element("code", null, name)),
    table(Object.entries(schema.properties || {}).map(([field, s]) => [
      element("code", required.includes(field) ? { class: "required" } : null, field), schemaType(s), notes(s)])));
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.scrollIntoView();
  }
}

async function render() {
  const main = document.getElementById("calls");
  const answer = await fetch("/openapi.json");
  if (!answer.ok) {
    main.replaceChildren(element("p", null, "openapi.json: " + answer.status));
    return;
  }
  const doc = await answer.json();
  components = doc.components;
  document.getElementById("about").append(prose(doc.info.description), " Version " + doc.info.version + ".");
  const groups = new Map(doc.tags.map((tag) => [tag.name, []]));
  for (const [path, item] of Object.entries(doc.paths)) {
    for (const method of ["get", "post", "put", "patch", "delete"]) {
      if (!item[method]) continue;
      const tag = (item[method].tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operation(method, path, item[method]));
    }
  }
  main.replaceChildren();
  for (const [tag, operations] of groups) main.append(element("h2", null, tag), ...operations);
  main.append(element("h2", null, "Shapes"),
    ...Object.entries(doc.components.schemas).map(([name, schema]) => shape(name, schema)));
  openTarget();
}

addEventListener("hashchange", openTarget);
render();
