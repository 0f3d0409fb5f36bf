// The calls of the API, made with the key that was given.
import { send } from "./http.js";
import { authorised } from "./session.js";

const call = (method, path, body, more) => authorised((key) => send(method, path, { key, body, more }));

const at = (id) => "/v1/tasks/" + encodeURIComponent(id);

export const list = (query) => call("GET", "/v1/tasks?" + query);
export const task = (id) => call("GET", at(id));
export const explain = (id) => call("GET", at(id) + "/explain");
export const cancel = (id) => call("POST", at(id) + "/cancel", "{}");
export const retry = (id) => call("POST", at(id) + "/retry");
export const remove = (id) => call("DELETE", at(id));
export const stats = () => call("GET", "/v1/stats");
export const workers = () => call("GET", "/v1/workers");

/** result is a blob of the bare result, byte for byte. */
export const result = (id) => authorised((key) => send("GET", at(id) + "/result", { key, blob: true }));

/** submit sends the payload as it was typed. The key makes a second try harmless. */
export function submit(fields, payload, key) {
  const body = JSON.stringify(fields);
  const whole = payload === "" ? body : body.slice(0, -1) + ',"payload":' + payload + "}";
  return call("POST", "/v1/tasks", whole, { "Idempotency-Key": key });
}
