// One task: what it is, how far it has come, and all it says.
import { h, bar, confirm, copy, mention, onFrame, save, say, setText, stateMark, toast } from "./dom.js";
import { after, brief, count, duration, ended, moment, remaining, spent } from "./format.js";
import { apply, tidy } from "./tasks.js";
import { coloured } from "./json.js";
import { Story } from "./story.js";
import * as api from "./api.js";
import { may } from "./session.js";

const tabs = ["output", "logs", "events", "result", "input", "attempts"];
const said = new Set(["output", "logs", "events"]);

export class Detail {
  #place;
  #connection;
  #actions;
  #view = null;

  /** actions: close(), seen(task), removed(id), picked(tab). */
  constructor(place, connection, actions) {
    this.#place = place;
    this.#connection = connection;
    this.#actions = actions;
    setInterval(() => this.#view?.tick(), 500);
  }

  get id() { return this.#view?.id ?? ""; }

  /** open shows a task, or says that it cannot be shown: allowed. */
  open(id, tab, allowed) {
    if (this.id === id && this.#view.allowed === allowed) {
      if (tab) this.#view.pick(tab);
      return;
    }
    this.close();
    this.#view = new View(id, tab, allowed, this.#connection, this.#actions);
    this.#place.replaceChildren(this.#view.node);
    this.#place.hidden = false;
  }

  close() {
    this.#view?.close();
    this.#view = null;
    this.#place.hidden = true;
    this.#place.replaceChildren();
  }

  ask() { this.#view?.ask(); }

  /** heard is an event of any task, from the list's subscription. */
  heard(event) { if (event.task === this.id) this.#view.heard(event); }

  pickTab(n) { if (this.#view && tabs[n]) this.#view.pick(tabs[n], true); }
}

const pairs = (object, by) => Object.entries(object ?? {}).map(([k, v]) => k + by + v).join(", ");

class View {
  #task = null;
  #shown = ""; // the state that was announced
  #auto = true;
  #tab = "";
  #busy = "";
  #explained = 0;
  #explaining = false;
  #waiting = "";
  #gone = false;
  #bodies = {}; // what the panels of JSON show now
  #panels = {};
  #buttons = {};
  #story = new Story();
  #state = stateMark();
  #bar = bar();
  #parts = {
    kind: h("h2"), left: h("span"), right: h("span", { class: "soft" }), facts: h("dl"),
    note: h("p", { class: "why", hidden: true }), verbs: h("div", { class: "verbs" }),
  };

  constructor(id, tab, allowed, connection, actions) {
    this.id = id;
    this.allowed = allowed;
    this.actions = actions;
    this.#build();
    this.#auto = !tabs.includes(tab);
    this.#select(this.#auto ? "output" : tab);
    if (!allowed) {
      this.#fail({ code: "forbidden", detail: "Who is here may not read tasks." });
      return;
    }
    this.subscription = connection.subscribe({ task: id }, {
      snapshot: ({ task }) => this.#snapshot(task),
      event: (event) => this.#event(event),
      gap: (first) => this.#story.gap(first),
      error: (problem) => this.#fail(problem),
    });
  }

  close() {
    this.#gone = true;
    this.subscription?.close();
  }

  #build() {
    const p = this.#parts;
    const id = h("button", { type: "button", class: "copy", title: "Copy the id", onclick: () => copy(this.id, id) }, this.id);
    const body = {
      output: this.#story.output.node, logs: this.#story.logs.node, events: this.#story.events.node,
      result: h("div", { class: "scroll json" }), input: h("div", { class: "scroll json" }), attempts: h("div", { class: "scroll" }),
    };
    this.#panels = body;
    const list = h("div", { class: "tabs", role: "tablist", "aria-label": "What the task says" });
    for (const name of tabs) {
      const tab = h("button", {
        type: "button", role: "tab", id: "tab-" + name, "aria-controls": "panel-" + name,
        onclick: () => this.pick(name, true), onkeydown: (event) => this.#arrow(event, name),
      }, h("span", null, name[0].toUpperCase() + name.slice(1)), h("small"));
      this.#buttons[name] = tab;
      list.append(tab);
      body[name].id = "panel-" + name;
      body[name].setAttribute("role", "tabpanel");
      body[name].setAttribute("aria-labelledby", "tab-" + name);
    }
    this.node = h("article", { class: "task" },
      h("header", null,
        h("div", { class: "title" },
          h("button", { type: "button", class: "round back", "aria-label": "Back to the list", onclick: () => this.actions.close() }, "←"),
          p.kind, this.#state.node, h("span", { class: "grow" }), p.verbs),
        id,
        h("div", { class: "how" }, this.#bar.node, h("div", { class: "line" }, p.left, p.right)),
        p.note, p.facts),
      list,
      h("div", { class: "panels" }, Object.values(body)));
  }

  #arrow(event, name) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const to = tabs[(tabs.indexOf(name) + by + tabs.length) % tabs.length];
    this.pick(to, true);
    this.#buttons[to].focus();
  }

  pick(name, tell = false) {
    if (!tabs.includes(name)) return;
    this.#auto = false;
    this.#select(name);
    if (tell) this.actions.picked(name);
  }

  #select(name) {
    if (this.#tab === name) return;
    this.#tab = name;
    for (const each of tabs) {
      const is = each === name;
      this.#buttons[each].setAttribute("aria-selected", is);
      this.#buttons[each].tabIndex = is ? 0 : -1;
      if (said.has(each)) this.#story[each].show(is);
      else this.#panels[each].hidden = !is;
    }
    this.ask();
  }

  // ---- what comes

  #snapshot(task) {
    if (!this.#task || after(task.cursor, this.#task.cursor)) this.#task = tidy(task);
    this.#story.remember(task);
    this.#moved();
  }

  #event(event) {
    this.#story.tell(event);
    if (this.#task && apply(this.#task, event) && event.type === "state") this.#moved();
    else this.ask();
  }

  heard(event) {
    // It had ended, and was started anew by somebody else.
    if (event.type === "state" && !ended(event.data.state)) this.subscription.again();
  }

  #moved() {
    const task = this.#task;
    this.#busy = "";
    this.#explained = 0;
    this.#waiting = "";
    if (this.#shown && this.#shown !== task.state) say(task.kind + " " + task.state);
    this.#shown = task.state;
    this.actions.seen(task);
    this.ask();
  }

  #fail(problem) {
    this.node.replaceChildren(h("div", { class: "empty" },
      h("h2", null, problem.code === "task_not_found" ? "There is no such task" : "This task cannot be followed"),
      h("p", null, problem.detail ?? problem.title ?? ""), h("code", null, this.id),
      h("p", null, h("button", { type: "button", onclick: () => this.actions.close() }, "Back to the list"))));
  }

  // ---- what is seen

  #draw = () => {
    const task = this.#task;
    if (!task || this.#gone) return;
    setText(this.#parts.kind, task.kind);
    this.#state.show(task.state);
    this.node.dataset.state = task.state;
    this.#drawVerbs(task);
    this.#drawFacts(task);
    this.#drawTabs(task);
    this.#drawMoving();
  };
  ask() { onFrame(this.#draw); }

  #drawMoving() {
    const task = this.#task;
    const running = task.state === "running";
    const fraction = task.progress?.fraction ?? null;
    this.#bar.show(task.state === "succeeded" ? 1 : running ? fraction : fraction ?? 0);
    const left = remaining(task);
    const taken = spent(task);
    setText(this.#parts.left, [
      fraction === null || task.state === "succeeded" ? "" : Math.floor(fraction * 100) + " %",
      task.progress?.message || (running ? "Running" : ""),
    ].filter(Boolean).join(" · ") || "\u00a0");
    setText(this.#parts.right, [
      left === null ? "" : "about " + duration(left) + " left",
      taken === null ? "" : (running ? "for " : "took ") + duration(taken),
    ].filter(Boolean).join(" · "));
    this.#parts.note.hidden = this.#waiting === "";
    setText(this.#parts.note, this.#waiting);
  }

  tick() {
    if (!this.#task || this.#gone || document.hidden) return;
    onFrame(this.#draw);
    if (["scheduled", "blocked", "queued"].includes(this.#task.state)) this.#explain();
  }

  /** explain asks why the task waits, again every few seconds: the answer changes without an event. */
  async #explain() {
    const time = performance.now();
    if (this.#explaining || this.#explained && time - this.#explained < 3000) return;
    this.#explained = time;
    this.#explaining = true;
    try {
      const { message, task } = await api.explain(this.id);
      if (this.#task.cursor === task.cursor) this.#waiting = message;
      this.ask();
    } catch (problem) {
      mention(problem);
    } finally {
      this.#explaining = false;
    }
  }

  #drawVerbs(task) {
    const over = ended(task.state);
    const allowed = may("tasks:write");
    const key = task.state + this.#busy + allowed;
    if (this.#parts.verbs.dataset.key === key) return;
    this.#parts.verbs.dataset.key = key;
    const verb = (name, doing, does, style) => h("button", {
      type: "button", class: style, disabled: this.#busy !== "", onclick: does,
    }, this.#busy === name ? doing : name);
    this.#parts.verbs.replaceChildren(...!allowed ? [] : [
      !over && verb("Cancel", "Cancelling…", () => this.#cancel()),
      (task.state === "failed" || task.state === "cancelled") && verb("Retry", "Retrying…", () => this.#do("Retry", async () => {
        this.actions.seen(await api.retry(this.id));
        this.subscription.again();
      })),
      over && verb("Delete", "Deleting…", () => this.#remove(), "danger"),
    ].filter(Boolean));
  }

  async #do(name, call) {
    this.#busy = name;
    this.ask();
    try {
      await call();
    } catch (problem) {
      toast(problem.message);
      this.#busy = "";
      this.ask();
    }
  }

  async #cancel() {
    const running = this.#task.state === "running";
    const detail = running ? "The attempt under way is stopped. What it has done stays done." : "It will not run.";
    if (await confirm("Cancel this task?", detail, "Cancel the task")) this.#do("Cancel", () => api.cancel(this.id));
  }

  async #remove() {
    if (!await confirm("Delete this task?", "Its result and all its events are deleted with it.", "Delete the task")) return;
    this.#do("Delete", async () => {
      await api.remove(this.id);
      this.actions.removed(this.id);
    });
  }

  #drawFacts(task) {
    const time = (name, at) => at && [name, brief(at), moment(at)];
    const wide = (name, value) => value && [name, value, value, "wide"];
    const facts = [
      ["Queue", task.queue], ["Priority", String(task.priority)], ["Attempt", task.attempt + " of " + task.max_attempts],
      time("Submitted", task.created_at), task.state === "scheduled" && time("Due", task.run_at),
      time("Started", task.started_at), time("Ended", task.finished_at),
      task.node && ["Node", task.node], task.worker && task.worker !== task.node && ["Worker", task.worker],
      ["Holds", pairs(task.resources, " ") || "nothing"],
      task.timeout && ["Timeout", task.timeout], time("Deadline", task.deadline),
      wide("Labels", pairs(task.labels, "=")), wide("Unique key", task.unique_key), wide("Batch", task.batch_id),
    ].filter(Boolean);
    if (!this.#changed("facts", JSON.stringify(facts))) return;
    this.#parts.facts.replaceChildren(...facts.map(([name, value, title, style]) =>
      h("div", { class: style }, h("dt", null, name), h("dd", { title: title ?? value }, value))));
  }

  #drawTabs(task) {
    if (this.#auto) this.#select(this.#likely(task));
    const { output, logs, events, attempts } = this.#story;
    for (const [name, n] of [["output", output.count], ["logs", logs.count], ["events", events.count], ["attempts", attempts.size]]) {
      setText(this.#buttons[name].lastElementChild, n ? count(n) : "");
    }
    setText(this.#buttons.result.firstElementChild, task.state === "failed" ? "Error" : "Result");
    if (this.#tab === "input") this.#drawJSON("input", task.payload, "Submitted without a payload.");
    if (this.#tab === "result") this.#drawResult(task);
    if (this.#tab === "attempts") this.#drawAttempts(task);
  }

  /** likely is the tab that tells most, until a person has chosen one. */
  #likely(task) {
    if (task.state === "failed") return "result";
    if (this.#story.output.count) return "output";
    if (this.#story.logs.count) return "logs";
    return ended(task.state) ? "result" : "output";
  }

  /** changed says whether a panel has something new to show, and remembers it. */
  #changed(name, key) {
    if (this.#bodies[name] === key) return false;
    this.#bodies[name] = key;
    return true;
  }

  #drawJSON(name, value, nothing, download = null) {
    // A value is drawn once: spreading a large one over lines takes its time.
    if (!this.#changed(name, typeof value === "object" && value !== null ? value : "json " + JSON.stringify(value))) return;
    const text = JSON.stringify(value, null, 2);
    if (value === undefined || value === null && name === "input") {
      this.#panels[name].replaceChildren(h("div", { class: "nothing" }, nothing));
      return;
    }
    const button = h("button", { type: "button", onclick: () => copy(text, button) }, "Copy");
    this.#panels[name].replaceChildren(
      h("div", { class: "tools" }, download, button),
      h("pre", null, coloured(text)));
  }

  #drawResult(task) {
    if (task.state === "succeeded") {
      const download = h("button", { type: "button", onclick: () => this.#download(download) }, "Download");
      this.#drawJSON("result", task.result ?? null, "", download);
      return;
    }
    const error = task.error;
    if (!this.#changed("result", error ?? task.state)) return;
    if (!error) {
      this.#panels.result.replaceChildren(h("div", { class: "nothing" },
        task.state === "cancelled" ? "It was cancelled, and has no result." : "It has not ended yet."));
      return;
    }
    this.#panels.result.replaceChildren(h("div", { class: "error" },
      h("strong", null, error.code), h("p", null, error.message),
      h("p", { class: "soft" }, error.retryable ? "Another attempt may succeed." : "It is not one that another attempt would mend."),
      error.details === undefined || error.details === null ? null : h("pre", null, coloured(JSON.stringify(error.details, null, 2)))));
  }

  /** download saves the result as the server has it. A mere link would not show the key. */
  async #download(button) {
    button.disabled = true;
    try {
      save(await api.result(this.id), this.id + ".json");
    } catch (problem) {
      toast(problem.message);
    } finally {
      button.disabled = false;
    }
  }

  #drawAttempts(task) {
    const attempts = [...this.#story.attempts.values()].sort((a, b) => b.attempt - a.attempt);
    if (!this.#changed("attempts", JSON.stringify([attempts, task.state]))) return;
    if (attempts.length === 0) {
      this.#panels.attempts.replaceChildren(h("div", { class: "nothing" }, "No attempt has started."));
      return;
    }
    this.#panels.attempts.replaceChildren(h("ol", { class: "attempts" }, attempts.map((a) => {
      const mark = stateMark();
      mark.show(a.error ? "failed" : a.state);
      return h("li", null,
        h("div", { class: "line" }, h("strong", null, "Attempt " + a.attempt), mark.node, h("span", { class: "grow" }),
          h("span", { class: "soft" }, [a.node, a.started && brief(a.started), a.started && a.ended && duration(Date.parse(a.ended) - Date.parse(a.started))].filter(Boolean).join(" · "))),
        a.error ? h("p", null, h("strong", null, a.error.code), " " + a.error.message) : null);
    })));
  }
}
