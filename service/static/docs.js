"use strict";

let schemas = {};

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter(Boolean));
  return element;
}

const json = (value) => make("pre", {}, make("code", { textContent: JSON.stringify(value, null, 2) }));
const heading = (text) => make("h2", { textContent: text });

function resolve(schema) {
  return schema && schema.$ref ? schemas[schema.$ref.split("/").pop()] : schema || {};
}

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const) return JSON.stringify(schema.const);
  const choices = schema.anyOf || schema.oneOf;
  if (choices) return choices.map(typeOf).join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  return [schema.type].flat().join(" | ");
}

function fields(schema) {
  const known = resolve(schema);
  if (!known.properties) return null;
  const required = known.required || [];
  const rows = Object.entries(known.properties).map(([name, field]) =>
    make("tr", {},
      make("td", {}, make("code", { textContent: name })),
      make("td", { textContent: typeOf(field) }),
      make("td", { textContent: required.includes(name) ? "required" : "" }),
      make("td", { className: "soft", textContent: field.description || "" })));
  return make("table", {}, ...rows);
}

function examples(content) {
  if (content.example !== undefined) return [json(content.example)];
  return Object.entries(content.examples || {}).flatMap(([name, example]) =>
    [make("div", { className: "soft", textContent: name }), json(example.value)]);
}

function payload(content = {}) {
  return Object.entries(content).flatMap(([type, inner]) =>
    [make("div", { className: "soft", textContent: type }), fields(inner.schema), ...examples(inner)]);
}

function answers(responses) {
  return Object.entries(responses).map(([status, answer]) =>
    make("details", {},
      make("summary", {}, make("b", { textContent: status }), ` ${answer.description || ""}`),
      ...payload(answer.content)));
}

function parameters(list = []) {
  if (!list.length) return [];
  const rows = list.map((one) =>
    make("tr", {},
      make("td", {}, make("code", { textContent: one.name })),
      make("td", { textContent: `${one.in} · ${typeOf(one.schema)}` }),
      make("td", { textContent: one.required ? "required" : "" })));
  return [heading("Parameters"), make("table", {}, ...rows)];
}

function route(path, method, operation) {
  return make("details", { className: "card route" },
    make("summary", {},
      make("span", { className: "method", textContent: method.toUpperCase() }),
      make("code", { textContent: path }),
      make("span", { className: "soft", textContent: operation.description || operation.summary })),
    ...parameters(operation.parameters),
    operation.requestBody && heading("Request"),
    ...payload(operation.requestBody && operation.requestBody.content),
    heading("Answers"),
    ...answers(operation.responses));
}

async function main() {
  const api = await (await fetch("/openapi.json")).json();
  schemas = api.components.schemas;
  document.getElementById("title").textContent = api.info.title;
  document.getElementById("version").textContent = api.info.version;
  document.getElementById("description").textContent = api.info.description;
  const routes = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => route(path, method, operation)));
  routes[0].open = true;
  document.getElementById("routes").replaceChildren(...routes);
}

main().catch((error) => {
  document.getElementById("routes").textContent = `openapi.json could not be shown: ${error}`;
});
