// One call over HTTP. What goes wrong is a Problem, which says what the problem
// document says.
import { parse } from "./json.js";

export class Problem extends Error {
  constructor(document, status, retryAfter = 0) {
    super(document?.detail || document?.title || "The server answered " + status + ".");
    this.code = document?.code ?? "";
    this.status = status;
    this.fields = document?.errors ?? [];
    /** retryAfter is how many milliseconds the server wants to be left alone. */
    this.retryAfter = retryAfter;
  }
}

const patience = 60_000;

function headers(key, body, more) {
  return {
    Accept: "application/json",
    ...(key && { Authorization: "Bearer " + key }),
    ...(body !== undefined && { "Content-Type": "application/json" }),
    ...more,
  };
}

async function answered(method, path, { key, body, more }) {
  const answer = await fetch(path, {
    method, body, cache: "no-store", headers: headers(key, body, more), signal: AbortSignal.timeout(patience),
  });
  // Read within the same patience: a body may come to a halt as well.
  return { answer, content: await answer.blob() };
}

/** send gives the answer's value, or all of it as a blob where that is asked for. */
export async function send(method, path, { blob = false, ...request } = {}) {
  let answer, content;
  try {
    ({ answer, content } = await answered(method, path, request));
  } catch {
    throw new Problem({ detail: "The server cannot be reached.", code: "unreachable" }, 0);
  }
  if (answer.ok && blob) return content;
  const text = await content.text();
  let value = null;
  try {
    if (text !== "") value = parse(text);
  } catch {
    if (answer.ok) throw new Problem({ detail: "The server's answer is not JSON." }, answer.status);
  }
  if (!answer.ok) throw new Problem(value, answer.status, 1000 * (Number(answer.headers.get("Retry-After")) || 0));
  return value;
}
