// The table of tasks. Rows are kept and only what differs is written.
import { h, bar, onFrame, setText, stateMark, copy } from "./dom.js";
import { brief, coarse, count, duration, ended, moment, now, remaining, spent } from "./format.js";
import { mostRows } from "./tasks.js";

const columns = [
  ["state", "State"], ["kind", "Kind"], ["progress", "Progress"], ["queue", "Queue"],
  ["priority", "Prio"], ["attempt", "Try"], ["time", "Time"], ["age", "Age"],
];

export const firstCommand = `troupe submit demo.sleep '{"duration":"5s","steps":50}' --follow`;

class Row {
  #state = stateMark();
  #bar = bar();
  #cells = {};
  #started = false;

  constructor(id, href) {
    this.id = id;
    this.#cells.kind = h("a", { href, class: "kind", draggable: "false" });
    this.#cells.short = h("span", { class: "id" }, id.slice(-8));
    this.#cells.message = h("span", { class: "message" });
    for (const name of ["queue", "priority", "attempt", "time", "age"]) this.#cells[name] = h("td", { class: name });
    const c = this.#cells;
    this.node = h("tr", { "data-id": id },
      h("td", { class: "c-state" }, this.#state.node),
      h("td", { class: "c-kind" }, c.kind, c.short),
      h("td", { class: "c-progress" }, this.#bar.node, c.message),
      c.queue, c.priority, c.attempt, c.time, c.age);
  }

  show(task) {
    const c = this.#cells;
    this.#state.show(task.state);
    this.node.dataset.state = task.state;
    setText(c.kind, task.kind);
    setText(c.queue, task.queue);
    setText(c.priority, task.priority === 0 ? "0" : (task.priority > 0 ? "+" : "−") + Math.abs(task.priority));
    c.priority.classList.toggle("zero", task.priority === 0);
    setText(c.attempt, task.attempt ? task.attempt + "/" + task.max_attempts : "–");
    const running = task.state === "running";
    const fraction = task.progress?.fraction ?? null;
    this.#bar.node.hidden = !(running || (ended(task.state) && task.state !== "succeeded" && fraction !== null));
    if (!this.#bar.node.hidden) this.#bar.show(fraction);
    setText(c.message, message(task, running));
    c.age.title = "Submitted " + moment(task.created_at);
    this.tick(task);
  }

  /** tick is what moves with the clock alone. */
  tick(task) {
    const taken = spent(task);
    setText(this.#cells.time, taken === null ? "–" : duration(taken));
    setText(this.#cells.age, coarse(now() - Date.parse(task.created_at)));
  }
}

function message(task, running) {
  if (running && task.progress) {
    const left = remaining(task);
    const percent = task.progress.fraction === null ? "" : Math.floor(task.progress.fraction * 100) + " %";
    return [percent, task.progress.message, left === null ? "" : duration(left) + " left"].filter(Boolean).join(" · ").slice(0, 300);
  }
  if (task.state === "failed" && task.error) return (task.error.code + ": " + task.error.message).slice(0, 300);
  if (task.state === "scheduled" && task.run_at) return "at " + brief(task.run_at);
  return "";
}

export class List {
  #rows = new Map();
  #body = h("tbody");
  #table;
  #empty = h("div", { class: "empty" });
  #foot = h("p", { class: "foot" });
  #tasks;
  #shown = [];
  #picked = "";
  #opened = "";
  #first = true;
  filter = { state: "", kind: "", text: "" };
  /** access is "" where tasks may be read, "unread" where not, "out" where nobody is signed in. */
  access = "";

  /** actions: href(id), open(id), demo(kind), clear(), demos(), signIn(). */
  constructor(place, tasks, actions) {
    this.#tasks = tasks;
    this.actions = actions;
    this.#table = h("table", null,
      h("thead", null, h("tr", null, columns.map(([name, title]) => h("th", { scope: "col", class: "c-" + name }, title)))),
      this.#body);
    place.append(this.#table, this.#foot, this.#empty);
    this.#body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (!row || event.target.closest("a") || String(getSelection()) !== "") return;
      actions.open(row.dataset.id);
    });
    setInterval(() => onFrame(this.#tick), 500);
  }

  ask() { onFrame(this.#draw); }

  #matches(task) {
    const { state, kind, text } = this.filter;
    if (state && task.state !== state || kind && task.kind !== kind) return false;
    if (!text) return true;
    const words = [task.id, task.kind, task.queue, task.node, task.progress?.message, task.error?.message, task.error?.code,
      ...Object.entries(task.labels ?? {}).map(([k, v]) => k + "=" + v)].join("\n").toLowerCase();
    return text.toLowerCase().split(/\s+/).every((word) => words.includes(word));
  }

  #draw = () => {
    const tasks = this.#tasks.newest().filter((task) => this.#matches(task));
    const keep = new Set(tasks.map((task) => task.id));
    for (const [id, row] of this.#rows) {
      if (!keep.has(id)) {
        row.node.remove();
        this.#rows.delete(id);
      }
    }
    let at = this.#body.firstElementChild;
    for (const task of tasks) {
      let row = this.#rows.get(task.id);
      if (!row) {
        row = new Row(task.id, this.actions.href(task.id));
        if (!this.#first) row.node.classList.add("new");
        this.#rows.set(task.id, row);
      }
      row.show(task);
      if (row.node === at) at = at.nextElementSibling;
      else this.#body.insertBefore(row.node, at);
    }
    this.#shown = tasks;
    this.#first = this.#first && tasks.length === 0;
    this.#mark();
    this.#explain();
  };

  #tick = () => { for (const task of this.#shown) this.#rows.get(task.id)?.tick(task); };

  #explain() {
    const none = this.#shown.length === 0;
    this.#table.hidden = none;
    this.#empty.hidden = !none;
    this.#foot.hidden = this.#shown.length < mostRows;
    setText(this.#foot, "The newest " + count(mostRows) + ". Filter to see others, or ask GET /v1/tasks.");
    const { state, kind, text } = this.filter;
    const why = !none ? "" : this.access ? this.access : !this.loaded ? "loading" : state || kind || text ? "filter" : "empty" + this.actions.demos().join();
    if (this.#empty.dataset.why === why) return;
    this.#empty.dataset.why = why;
    this.#empty.replaceChildren(...this.#words(why));
  }

  #words(why) {
    switch (why) {
      case "": return [];
      case "out": return [h("h2", null, "Nobody is signed in"), h("p", null, "This server shows tasks to those who have a key."),
        h("button", { type: "button", class: "primary", onclick: () => this.actions.signIn() }, "Sign in")];
      case "unread": return [h("h2", null, "This key may not read tasks"), h("p", null, "It lacks the scope tasks:read, so there is no list here.")];
      case "loading": return [h("p", null, "Waiting for the server…")];
      case "filter": return this.#noMatch();
      default: return this.#welcome();
    }
  }

  #noMatch() {
    return [h("h2", null, "No task matches"), h("p", null, "None of the newest tasks is what the filter asks for."),
      h("button", { type: "button", onclick: () => this.actions.clear() }, "Clear the filter")];
  }

  #welcome() {
    const button = h("button", { type: "button", onclick: () => copy(firstCommand, button) }, "Copy");
    return [
      h("h2", null, "No tasks yet"),
      h("p", null, "Submit one from a terminal, and watch it here and there:"),
      h("div", { class: "command" }, h("code", null, firstCommand), button),
      h("p", { class: "actions" }, this.actions.demos().map((kind) =>
        h("button", { type: "button", onclick: () => this.actions.demo(kind) }, "Run " + kind))),
    ];
  }

  /** opened marks the task that is shown beside the list. */
  opened(id) {
    this.#opened = id;
    if (id) this.#picked = id;
    this.ask();
  }

  hrefs() { for (const [id, row] of this.#rows) row.node.querySelector("a").setAttribute("href", this.actions.href(id)); }

  #mark() {
    for (const [id, row] of this.#rows) {
      row.node.classList.toggle("picked", id === this.#picked);
      row.node.classList.toggle("opened", id === this.#opened);
      if (id === this.#opened) row.node.setAttribute("aria-current", "true");
      else row.node.removeAttribute("aria-current");
    }
  }

  /** move picks the row that many further down. */
  move(by) {
    if (this.#shown.length === 0) return;
    const at = this.#shown.findIndex((task) => task.id === this.#picked);
    const to = at < 0 ? (by > 0 ? 0 : this.#shown.length - 1) : Math.min(this.#shown.length - 1, Math.max(0, at + by));
    this.#picked = this.#shown[to].id;
    this.#mark();
    const row = this.#rows.get(this.#picked).node;
    row.scrollIntoView({ block: "nearest" });
    row.querySelector("a").focus({ preventScroll: true });
  }

  openPicked() { if (this.#picked) this.actions.open(this.#picked); }
}
