// Calls over HTTP. An error is an Error that says what the problem document says.
import { parse } from "./json.js";

export class Problem extends Error {
  constructor(document, status) {
    super(document?.detail || document?.title || "The server answered " + status + ".");
    this.code = document?.code ?? "";
    this.status = status;
    this.fields = document?.errors ?? [];
  }
}

async function call(method, path, body, headers) {
  let answer;
  try {
    answer = await fetch(path, {
      method, body, cache: "no-store",
      headers: { Accept: "application/json", ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...headers },
    });
  } catch {
    throw new Problem({ detail: "The server cannot be reached.", code: "unreachable" }, 0);
  }
  const text = await answer.text();
  let value = null;
  try {
    if (text !== "") value = parse(text);
  } catch {
    if (answer.ok) throw new Problem({ detail: "The server's answer is not JSON." }, answer.status);
  }
  if (!answer.ok) throw new Problem(value, answer.status);
  return value;
}

const at = (id) => "/v1/tasks/" + encodeURIComponent(id);

export const list = (query) => call("GET", "/v1/tasks?" + query);
export const task = (id) => call("GET", at(id));
export const explain = (id) => call("GET", at(id) + "/explain");
export const cancel = (id) => call("POST", at(id) + "/cancel", "{}");
export const retry = (id) => call("POST", at(id) + "/retry");
export const remove = (id) => call("DELETE", at(id));
export const stats = () => call("GET", "/v1/stats");
export const workers = () => call("GET", "/v1/workers");
export const resultPath = (id) => at(id) + "/result";

/** submit sends the payload as it was typed. The key makes a second try harmless. */
export function submit(fields, payload, key) {
  const body = JSON.stringify(fields);
  const whole = payload === "" ? body : body.slice(0, -1) + ',"payload":' + payload + "}";
  return call("POST", "/v1/tasks", whole, { "Idempotency-Key": key });
}
