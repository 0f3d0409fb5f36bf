// All that a task has said, as lines: its output, its logs, its events; and its
// attempts, put together from what it told of them.
import { h } from "./dom.js";
import { ended, size } from "./format.js";
import { number, pretty } from "./json.js";
import { Lines } from "./lines.js";

const longestOpen = 32_768;
const summary = 400;

// Colours and cursor moves are for terminals.
const escapes = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;

const line = (gutter, className, ...body) => h("div", { class: "l " + className }, h("span", { class: "g" }, gutter), h("span", { class: "b" }, ...body));

const drawOutput = ({ at, text, kind }) => kind === "mark" ? h("div", { class: "l mark" }, text) : line(at, kind, text);

function drawLog({ at, text, kind, level, fields }) {
  if (kind === "mark") return h("div", { class: "l mark" }, text);
  const extra = fields && typeof fields === "object"
    ? Object.entries(fields).slice(0, 32).map(([k, v]) => h("span", { class: "extra" }, k + "=" + (typeof v === "string" ? v : JSON.stringify(v))))
    : fields === undefined || fields === null ? [] : [h("span", { class: "extra" }, JSON.stringify(fields))];
  return line(at, "log-" + level, h("em", null, level), text, ...extra);
}

function drawEvent({ cursor, type, at, text, kind }) {
  if (kind === "mark") return h("div", { class: "l mark" }, text);
  return line(cursor, "ev", h("time", { datetime: at }, clock(at)), h("em", { "data-type": type }, type), text);
}

const levels = new Set(["debug", "info", "warn", "error"]);

function clock(at) {
  const d = new Date(at);
  const two = (n) => String(n).padStart(2, "0");
  return two(d.getHours()) + ":" + two(d.getMinutes()) + ":" + two(d.getSeconds()) + "." + String(d.getMilliseconds()).padStart(3, "0");
}

export class Story {
  output = new Lines(drawOutput, "No output yet. What the task emits appears here as it comes.");
  logs = new Lines(drawLog, "Nothing logged yet.");
  events = new Lines(drawEvent, "No events yet.");
  attempts = new Map();
  #base = 0;
  #open = null; // output text without its newline so far

  /** remember takes from a snapshot what the log may not have any more. */
  remember(task) {
    for (const { attempt, code, message, at, node } of task.errors ?? []) {
      const a = this.#attempt(attempt);
      a.error ??= { code, message };
      a.ended ??= at;
      a.node ??= node;
    }
  }

  #attempt(n) {
    if (!this.attempts.has(n)) this.attempts.set(n, { attempt: n, state: "running" });
    return this.attempts.get(n);
  }

  gap(first) {
    const text = first === null ? "The server's log is another one; from its beginning:" : "What came before " + first + " is not kept any more.";
    for (const lines of [this.output, this.logs, this.events]) lines.push({ kind: "mark", text });
    this.#open = null;
  }

  tell({ cursor, type, at, data }) {
    const text = JSON.stringify(data);
    this.events.push({ cursor, type, at, text: text.length > summary ? text.slice(0, summary) + "…" : text });
    const time = Date.parse(at);
    if (type === "state") this.#state(time, at, data);
    else if (type === "log") this.#log(time, data);
    else if (type === "output") this.#output(time, data);
  }

  #gutter(time) { return this.#base ? ((time - this.#base) / 1000).toFixed(3) : ""; }

  #state(time, at, data) {
    const n = number(data.attempt) ?? 0;
    if (data.state === "running") {
      this.#base = time;
      this.#open = null;
      Object.assign(this.#attempt(n), { started: at, node: data.node, state: "running" });
      for (const lines of [this.output, this.logs]) {
        if (n > 1 && lines.count) lines.push({ kind: "mark", text: "attempt " + n });
      }
      return;
    }
    const a = this.attempts.get(n);
    if (!a || a.ended && !data.error) return;
    a.ended ??= at;
    a.state = ended(data.state) ? data.state : a.error || data.error ? "failed" : data.state;
    if (data.error) a.error ??= { code: data.error.code, message: data.error.message };
  }

  #log(time, { level, message, fields }) {
    this.logs.push({ at: this.#gutter(time), text: String(message ?? ""), level: levels.has(level) ? level : "info", fields });
  }

  #output(time, data) {
    const at = this.#gutter(time);
    if (typeof data.text === "string") {
      this.#text(at, data.text);
      return;
    }
    this.#open = null;
    if (typeof data.base64 === "string") {
      const bytes = Math.floor(trimmed(data.base64, "=").length * 3 / 4);
      this.output.push({ at, kind: "binary", text: size(bytes) + " that are not text" });
    } else {
      this.output.push({ at, kind: "chunk", text: pretty(data.chunk ?? null, 160) });
    }
  }

  /** text goes on where the last one ended: a line may come in pieces. */
  #text(at, text) {
    const pieces = text.replace(escapes, "").split("\n");
    pieces.forEach((piece, i) => {
      const final = i === pieces.length - 1;
      if (this.#open !== null) {
        this.#open += piece;
        this.output.rewrite(visible(this.#open));
      } else if (piece !== "" || !final) {
        this.#open = piece;
        this.output.push({ at, kind: "text", text: visible(piece) });
      }
      if (!final || this.#open?.length > longestOpen) this.#open = null;
    });
  }
}

/** trimmed is text without what it ends in. A pattern would begin anew at each of many. */
function trimmed(text, end) {
  let length = text.length;
  while (length > 0 && text[length - 1] === end) length--;
  return text.slice(0, length);
}

/** visible is what a terminal would show of a line: the last that was written over it. */
function visible(text) {
  const end = trimmed(text, "\r");
  return end.slice(end.lastIndexOf("\r") + 1);
}
