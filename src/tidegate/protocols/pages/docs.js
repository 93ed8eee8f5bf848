"use strict";

/* Shows openapi.json and sends requests from it. All text goes in as text, never as markup. */

const find = document.getElementById("find");
const key = document.getElementById("key");
const main = document.getElementById("operations");
let api = null;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function withKey(headers) {
  return key.value ? { ...headers, "X-API-Key": key.value } : headers;
}

function resolve(node) {
  let steps = 0;
  while (node && node.$ref && steps++ < 16) {
    node = node.$ref.replace(/^#\//, "").split("/").reduce((at, name) => at && at[name], api);
  }
  return node || {};
}

async function load() {
  try {
    const response = await fetch("openapi.json", { headers: withKey({}) });
    if (response.status === 401 || response.status === 403) {
      show(make("p", { class: "note" }, "The server needs a key. Type it above and press Enter."));
      key.focus();
      return;
    }
    if (!response.ok) throw new Error(`status ${response.status}`);
    api = await response.json();
  } catch (error) {
    show(make("p", { class: "note" }, `openapi.json could not be read: ${error.message}`));
    return;
  }
  document.getElementById("version").textContent = api.info.version;
  document.getElementById("about").textContent = api.info.description || "";
  list();
}

function show(...children) {
  main.replaceChildren(...children);
}

function list() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const groups = new Map(api.tags.map((tag) => [tag.name, { about: tag.description, items: [] }]));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const text = `${method} ${path} ${operation.summary || ""}`.toLowerCase();
      if (!words.every((word) => text.includes(word))) continue;
      const name = (operation.tags || ["operations"])[0];
      if (!groups.has(name)) groups.set(name, { about: "", items: [] });
      groups.get(name).items.push(operationOf(method, path, operation));
    }
  }
  const shown = [...groups].filter(([, group]) => group.items.length);
  show(...shown.map(([name, group]) =>
    make("section", {}, make("h2", {}, name), make("p", { class: "about" }, group.about || ""), ...group.items)));
  if (!shown.length) show(make("p", { class: "note" }, "Nothing matches."));
}

function operationOf(method, path, operation) {
  const details = make("details", { class: "operation", id: operation.operationId },
    make("summary", {},
      make("span", { class: `method ${method}` }, method.toUpperCase()),
      make("span", { class: "path" }, path),
      make("span", { class: "words" }, operation.summary || "")));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(bodyOf(method, path, operation));
  });
  return details;
}

function bodyOf(method, path, operation) {
  const inputs = new Map();
  const parts = [];
  if (operation.description) parts.push(make("p", {}, operation.description));
  const parameters = (operation.parameters || []).map(resolve);
  if (parameters.length) parts.push(make("h3", {}, "Parameters"), parametersOf(parameters, inputs));
  const content = operation.requestBody ? resolve(operation.requestBody).content : null;
  const editor = content && content["application/json"] ? editorOf(content["application/json"]) : null;
  if (content) {
    parts.push(make("h3", {}, "Body"), make("p", { class: "about" }, Object.keys(content).join(" · ")));
    if (editor) parts.push(...editor.parts);
  }
  const answer = make("div", { role: "status", "aria-live": "polite" });
  const send = make("button", { type: "button" }, "Send");
  send.addEventListener("click", () => sendRequest(method, path, parameters, inputs, editor, send, answer));
  parts.push(make("div", { class: "row" }, send), answer, make("h3", {}, "Answers"), answersOf(operation.responses || {}));
  return make("div", {}, ...parts);
}

function parametersOf(parameters, inputs) {
  const rows = parameters.map((parameter) => {
    const input = make("input", { "aria-label": parameter.name, autocomplete: "off" });
    inputs.set(parameter, input);
    const needed = parameter.required ? " (required)" : "";
    return make("tr", {},
      make("td", {}, make("code", {}, parameter.name), ` ${parameter.in}${needed}`),
      make("td", {}, parameter.description || ""),
      make("td", {}, input));
  });
  const head = make("tr", {}, ...["Name", "Meaning", "Value"].map((text) => make("th", { scope: "col" }, text)));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

function editorOf(media) {
  const examples = Object.entries(media.examples || {});
  const area = make("textarea", { "aria-label": "Request body", spellcheck: "false" });
  const parts = [];
  if (examples.length) {
    const choice = make("select", {}, ...examples.map(([name, example]) => make("option", { value: name }, example.summary || name)));
    const put = () => { area.value = pretty(media.examples[choice.value].value); };
    choice.addEventListener("change", put);
    put();
    parts.push(make("div", { class: "row" }, make("label", {}, "Example ", choice)));
  } else {
    area.value = "{}";
  }
  parts.push(area);
  if (media.schema) {
    const holder = make("details", {}, make("summary", {}, "Schema"));
    holder.addEventListener("toggle", () => {
      if (holder.childElementCount === 1) holder.append(make("pre", { tabindex: "0" }, pretty(resolve(media.schema))));
    });
    parts.push(holder);
  }
  return { area, parts };
}

function answersOf(responses) {
  const rows = Object.entries(responses).map(([status, response]) => {
    const known = resolve(response);
    const types = Object.keys(known.content || {}).join(", ");
    return make("tr", {}, make("td", {}, status), make("td", {}, known.description || ""), make("td", {}, types));
  });
  const head = make("tr", {}, ...["Status", "Meaning", "Media type"].map((text) => make("th", { scope: "col" }, text)));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
}

async function sendRequest(method, path, parameters, inputs, editor, button, answer) {
  const headers = {};
  const query = new URLSearchParams();
  for (const parameter of parameters) {
    const value = inputs.get(parameter).value;
    if (parameter.in === "path") {
      if (!value) {
        answer.replaceChildren(make("p", { class: "status bad" }, `${parameter.name} is needed`));
        inputs.get(parameter).focus();
        return;
      }
      path = path.replace(`{${parameter.name}}`, encodeURIComponent(value));
    } else if (value && parameter.in === "query") query.set(parameter.name, value);
    else if (value && parameter.in === "header") headers[parameter.name] = value;
  }
  const options = { method: method.toUpperCase(), headers: withKey(headers) };
  if (editor) {
    options.body = editor.area.value;
    options.headers["Content-Type"] = "application/json";
  }
  const target = path.replace(/^\//, "") + (query.size ? `?${query}` : "");
  button.disabled = true;
  const started = performance.now();
  try {
    const response = await fetch(target, options);
    const text = await response.text();
    const took = (performance.now() - started).toFixed(1);
    const mood = response.ok ? "status" : "status bad";
    const lines = [...response.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    answer.replaceChildren(
      make("p", { class: mood }, `${response.status} ${response.statusText} in ${took} ms`),
      make("pre", { tabindex: "0" }, prettyText(text)),
      make("details", {}, make("summary", {}, "Headers"), make("pre", { tabindex: "0" }, lines)));
  } catch (error) {
    answer.replaceChildren(make("p", { class: "status bad" }, `No answer: ${error.message}`));
  } finally {
    button.disabled = false;
  }
}

/* JSON with short arrays on one line, so that rows read as rows. */
function pretty(value) {
  return JSON.stringify(value, null, 2).replace(/\[\n\s*([^[\]{}]*?)\n\s*\]/g, (_, inner) => `[${inner.replace(/\n\s*/g, " ")}]`);
}

function prettyText(text) {
  try {
    return pretty(JSON.parse(text));
  } catch {
    return text;
  }
}

find.addEventListener("input", () => api && list());
document.getElementById("tools").addEventListener("submit", (event) => event.preventDefault());
key.addEventListener("change", () => api === null && load());
load();
