// What is known of tasks: kept by snapshots, moved by events.
import { after, ended } from "./format.js";
import { mention } from "./dom.js";
import { number } from "./json.js";
import * as api from "./api.js";

export const mostRows = 200;
const mostEarly = 100;

/** apply moves a task by an event that is newer than it; it says whether it was. */
export function apply(task, { cursor, type, at, data }) {
  if (!after(cursor, task.cursor)) return false;
  task.cursor = cursor;
  if (type === "progress") {
    task.progress = { fraction: number(data.fraction), message: data.message ?? "", at };
  }
  if (type !== "state") return true;
  if (ended(task.state) && !ended(data.state)) task.result = task.error = task.finished_at = undefined;
  task.state = data.state;
  task.attempt = data.attempt ?? task.attempt;
  task.run_at = data.run_at ?? task.run_at;
  if (data.state === "running") {
    task.started_at = at;
    task.progress = undefined;
    task.node = data.node;
    task.worker = data.worker;
  } else if (ended(data.state)) {
    task.finished_at = at;
    task.result = data.result;
    task.error = data.error;
  }
  return true;
}

/** tidy makes the numbers that are computed with plain numbers. */
export function tidy(task) {
  if (task.progress) task.progress.fraction = number(task.progress.fraction);
  return task;
}

/** Tasks is what the list shows. It keeps no payloads and no results. */
export class Tasks {
  #byID = new Map();
  #sorted = null;
  #unknown = new Set(); // to be asked for
  #early = new Map(); // events that came before the tasks they are about
  #fetching = false;
  #changed;
  #query = "";

  constructor(changed) { this.#changed = changed; }

  get(id) { return this.#byID.get(id); }
  get known() { return this.#byID.size; }

  /** kinds that were seen. */
  kinds() { return new Set([...this.#byID.values()].map((task) => task.kind)); }

  /** reset begins anew with a view the server has sent. */
  reset(tasks, query) {
    this.#byID.clear();
    this.#unknown.clear();
    this.#early.clear();
    this.#query = query;
    for (const task of tasks) this.set(task);
    this.#sorted = null;
    this.#changed();
    // The server's first view is shorter than ours.
    if (tasks.length >= 100) this.#fetch([], true);
  }

  set(task) {
    const known = this.#byID.get(task.id);
    if (known && !after(task.cursor, known.cursor)) return;
    const { payload: _payload, result: _result, errors: _errors, ...row } = task;
    this.#byID.set(task.id, tidy(row));
    // What was said meanwhile is newer than the answer, or in it already.
    for (const event of this.#early.get(task.id) ?? []) apply(row, event);
    this.#early.delete(task.id);
    this.#unknown.delete(task.id);
    this.#sorted = null; // it holds the row that was
    this.#changed();
  }

  remove(id) {
    if (this.#byID.delete(id)) this.#sorted = null;
    this.#changed();
  }

  event(event) {
    const task = this.#byID.get(event.task);
    if (task) {
      if (apply(task, event)) this.#changed();
      return;
    }
    // An event does not say what it is about. One older than all rows is none of ours.
    const rows = this.newest();
    if (rows.length >= mostRows && event.task < rows[rows.length - 1].id) return;
    const early = this.#early.get(event.task);
    if (early) {
      if (early.length < mostEarly) early.push(event);
      return;
    }
    this.#early.set(event.task, [event]);
    this.#unknown.add(event.task);
    this.#learn();
  }

  /** newest lists tasks, newest first, and forgets those too old to be shown. */
  newest() {
    if (this.#sorted === null) {
      this.#sorted = [...this.#byID.values()].sort((a, b) =>
        a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : a.id < b.id ? 1 : -1);
      for (const task of this.#sorted.splice(mostRows)) this.#byID.delete(task.id);
    }
    return this.#sorted;
  }

  /** learn asks for new tasks; for many at once by one call, and not more often than makes sense. */
  #learn() {
    if (this.#fetching || this.#unknown.size === 0) return;
    this.#fetching = true;
    setTimeout(async () => {
      const ids = [...this.#unknown];
      this.#unknown.clear();
      await this.#fetch(ids, ids.length > 4);
      setTimeout(() => {
        this.#fetching = false;
        this.#learn();
      }, ids.length > 4 ? 500 : 50);
    }, 30);
  }

  async #fetch(ids, all) {
    const query = this.#query;
    try {
      const found = all
        ? (await api.list("limit=" + mostRows + (query && "&" + query))).tasks
        : (await Promise.allSettled(ids.map(api.task))).filter((a) => a.status === "fulfilled").map((a) => a.value);
      if (query !== this.#query) return;
      for (const task of found) this.set(task);
    } catch (problem) {
      mention(problem); // the next event, or the next connection's view, brings them
    }
    // Those that are not among the found are gone, or too old to be shown.
    for (const id of ids) this.#early.delete(id);
  }
}
