// The page: what is shown is what the address says, and all of it comes over one
// socket.
import { h, mention, modal, onFrame, say, setText, toast } from "./dom.js";
import { count, moment, states } from "./format.js";
import { Connection } from "./socket.js";
import { Tasks } from "./tasks.js";
import { List } from "./list.js";
import { Detail } from "./detail.js";
import { openForm, runDemo } from "./submit.js";
import * as api from "./api.js";
import * as session from "./session.js";

const byID = (id) => document.getElementById(id);
const connection = new Connection(location.protocol.replace("http", "ws") + "//" + location.host + "/v1/ws", session);
connection.onforbidden = (reason) => toast(reason || "The server does not allow this connection.");

// ---- the address

/** route reads #/task/ID?state=…&kind=…&q=…&tab=… */
function route() {
  const [path, query = ""] = location.hash.slice(1).split("?", 2);
  const q = new URLSearchParams(query);
  const [, what, id = ""] = path.split("/");
  const state = states.includes(q.get("state")) ? q.get("state") : "";
  return { task: what === "task" ? safeDecode(id) : "", tab: q.get("tab") ?? "", filter: { state, kind: q.get("kind") ?? "", text: q.get("q") ?? "" } };
}

function safeDecode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

function address(task, filter, tab = "") {
  const q = new URLSearchParams();
  if (filter.state) q.set("state", filter.state);
  if (filter.kind) q.set("kind", filter.kind);
  if (filter.text) q.set("q", filter.text);
  if (task && tab) q.set("tab", tab);
  return "#/" + (task ? "task/" + encodeURIComponent(task) : "") + (q.size ? "?" + q : "");
}

function go(task, filter, tab) { location.hash = address(task, filter, tab); }

/** amend changes the address without a step for the back button. */
function amend(task, filter, tab) {
  history.replaceState(null, "", address(task, filter, tab));
  show();
}

// ---- what is there

const tasks = new Tasks(() => list.ask());
let kinds = [];
let counts = null;

// Nobody to say so, or nobody yet, is not the same as may not: what is shown stays.
const mayRead = () => ["unknown", "out"].includes(session.standing()) || session.may("tasks:read");
const mayWrite = () => session.may("tasks:write");

const demos = () => ["demo.sleep", "demo.stream"].filter((kind) => mayWrite() && kinds.includes(kind));
const list = new List(byID("list"), tasks, {
  href: (id) => address(id, route().filter),
  open: (id) => go(id, route().filter),
  demo: (kind) => runDemo(kind, submitted),
  demos,
  signIn: session.signIn,
  clear: () => amend(route().task, { state: "", kind: "", text: "" }, route().tab),
});
const detail = new Detail(byID("detail"), connection, {
  close: () => go("", route().filter),
  seen: (task) => tasks.set(task),
  removed: (id) => {
    tasks.remove(id);
    go("", route().filter);
    toast("The task is deleted.", "good");
    recount();
  },
  picked: (tab) => amend(route().task, route().filter, tab),
});

function submitted(task) {
  if (!mayRead()) {
    toast("Submitted: " + task.id, "good");
    return;
  }
  tasks.set(task);
  recount();
  go(task.id, route().filter);
}

// ---- the list's subscription: states and kinds are chosen by the server

let followed = null;
let followedKey = null;

function follow({ state, kind }) {
  const key = mayRead() ? state + "\n" + kind : null;
  if (key === followedKey) return;
  followedKey = key;
  followed?.close();
  if (key === null) {
    tasks.reset([], "");
    return;
  }
  const filter = {};
  if (state) filter.state = [state];
  if (kind) filter.kind = kind;
  const query = new URLSearchParams({ ...(state && { state }), ...(kind && { kind }) }).toString();
  list.loaded = false;
  const view = (found) => {
    list.loaded = true;
    tasks.reset(found, query);
    recount();
  };
  followed = connection.subscribe({ tasks: filter }, {
    snapshot: (result) => view(result.tasks ?? []),
    reset: view,
    event: (event) => {
      tasks.event(event);
      detail.heard(event);
      if (event.type === "state") recount();
    },
    error: (problem) => {
      view([]);
      toast(problem.detail ?? problem.title ?? "The tasks cannot be followed.");
    },
  });
}

// ---- counts by state, asked for seldom: soon after something has moved, else every 15 s

let counted = -Infinity;
let took = 0;
let counting = 0;

function recount() {
  if (counting || document.hidden || !session.may("tasks:read")) return;
  counting = setTimeout(async () => {
    const asked = performance.now();
    try {
      counts = (await api.stats()).counts ?? {};
      drawChips();
    } catch (problem) {
      mention(problem);
    }
    counted = performance.now();
    took = counted - asked;
    counting = 0;
    // Counting many tasks is work: what takes the server long is asked for more seldom.
  }, Math.max(100, counted + Math.max(1500, 20 * took) - performance.now()));
}

setInterval(() => { if (performance.now() - counted > 15_000) recount(); }, 5000);
document.addEventListener("visibilitychange", recount);

const chips = new Map(["", ...states].map((state) => {
  const number = h("b");
  const node = h("button", { type: "button", class: "chip", "data-state": state || "all", onclick: () => {
    const { task, filter, tab } = route();
    amend(task, { ...filter, state: filter.state === state ? "" : state }, tab);
  } }, state ? h("i") : null, state || "all", number);
  byID("chips").append(node);
  return [state, { node, number }];
}));

function drawChips() {
  onFrame(() => {
    const of = counts ?? {};
    const total = Object.values(of).reduce((a, b) => a + b, 0);
    const { filter } = route();
    for (const [state, { node, number }] of chips) {
      setText(number, counts === null ? "" : count(state ? of[state] ?? 0 : total));
      node.setAttribute("aria-pressed", filter.state === state);
      node.classList.toggle("none", state !== "" && !of[state]);
    }
    document.title = (of.running ? count(of.running) + " running · " : "") + "Troupe";
    drawKinds();
  });
}

// ---- kinds

async function learnKinds() {
  if (!session.may("tasks:read")) return;
  try {
    const { workers } = await api.workers();
    kinds = [...new Set(workers.flatMap((worker) => worker.kinds))].filter((kind) => /^[a-z0-9._-]{1,100}$/.test(kind)).sort();
    drawVerbs();
    drawKinds();
  } catch (problem) {
    mention(problem); // asked again on the next connection
  }
}

function drawKinds() {
  const select = byID("kind");
  const { kind } = route().filter;
  const all = [...new Set([...kinds, ...tasks.kinds(), ...(kind ? [kind] : [])])].sort().slice(0, 500);
  const key = all.join("\n");
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(h("option", { value: "" }, "All kinds"), ...all.map((name) => h("option", { value: name }, name)));
  }
  if (select.value !== kind) select.value = kind;
}

// ---- who is here, and what that allows

function drawWho() {
  const standing = session.standing();
  const me = session.who();
  byID("who").hidden = standing !== "in";
  if (standing === "in") {
    setText(byID("namespace"), me.namespace);
    setText(byID("scopes"), me.scopes.join(" "));
    byID("who").title = "Signed in to " + me.namespace + ": " + me.scopes.join(", ") + (me.expires ? "; until " + moment(me.expires) : "");
  }
  byID("sign").hidden = standing !== "in" && standing !== "out";
  setText(byID("sign"), standing === "out" ? "Sign in" : "Sign out");
}

function drawVerbs() {
  byID("submit").hidden = !mayWrite();
  byID("demo").hidden = demos().length === 0;
  list.ask();
  detail.ask();
}

session.changed(() => {
  drawWho();
  drawVerbs();
  drawBadge();
  show();
  if (session.standing() !== "out") connection.hurry();
});
byID("sign").addEventListener("click", () => session.standing() === "out" ? session.signIn() : session.signOut());

const openSubmit = () => { if (mayWrite()) openForm(kinds, submitted); };

// ---- the badge

let sessions = 0;
let badge = "";

function drawBadge() {
  const status = session.standing() === "out" ? { kind: "refused", text: "signed out" } : connection.status();
  const node = byID("badge");
  if (node.dataset.status !== status.kind) node.dataset.status = status.kind;
  setText(byID("badge-text"), status.text);
  if (badge && badge !== status.kind) say(status.kind === "live" ? "Live again" : status.kind === "stale" ? "" : status.text);
  badge = status.kind;
  document.body.classList.toggle("away", status.kind === "stale" || status.kind === "refused");
  if (connection.sessions !== sessions) {
    sessions = connection.sessions;
    learnKinds();
    recount();
  }
}
setInterval(drawBadge, 250);
byID("badge").addEventListener("click", () => session.standing() === "out" ? session.signIn() : connection.hurry());

// ---- showing

function show() {
  const { task, tab, filter } = route();
  follow(filter);
  list.filter = filter;
  list.access = session.standing() === "out" ? "out" : mayRead() ? "" : "unread";
  if (task) detail.open(task, tab, mayRead());
  else detail.close();
  byID("main").classList.toggle("split", task !== "");
  list.opened(task);
  list.hrefs();
  const input = byID("filter");
  if (document.activeElement !== input) input.value = filter.text;
  drawChips();
}

addEventListener("hashchange", show);

byID("filter").addEventListener("input", (event) => {
  const { task, filter, tab } = route();
  amend(task, { ...filter, text: event.target.value.trim() }, tab);
});
byID("filter").addEventListener("keydown", (event) => {
  if (event.key === "Escape") event.target.blur();
  if (event.key !== "Enter") return;
  const text = event.target.value.trim();
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) go(text, { ...route().filter, text: "" });
  else list.move(1);
});
byID("kind").addEventListener("change", (event) => {
  const { task, filter, tab } = route();
  amend(task, { ...filter, kind: event.target.value }, tab);
});
byID("submit").addEventListener("click", openSubmit);
byID("demo").addEventListener("click", () => runDemo(demos()[Math.floor(Math.random() * demos().length)], submitted));
byID("help").addEventListener("click", help);

// ---- the keyboard

const keys = [
  ["/", "Filter", () => byID("filter").select()],
  ["j", "Next task", () => list.move(1)],
  ["k", "Task before", () => list.move(-1)],
  ["Enter", "Open the task", null],
  ["Escape", "Back to the list", () => { if (detail.id) go("", route().filter); }],
  ["1 … 6", "A task's tabs", null],
  ["n", "Submit a task", openSubmit],
  ["?", "These keys", () => help()],
];

function help() {
  const close = h("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const dialog = modal("Keyboard shortcuts", h("h2", null, "Keyboard"),
    h("dl", { class: "keys" }, keys.filter(([key]) => key !== "n" || mayWrite()).map(([key, does]) => h("div", null, h("dt", null, h("kbd", null, key === "Escape" ? "Esc" : key)), h("dd", null, does)))),
    h("div", { class: "actions" }, close));
  dialog.classList.add("small");
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest?.("input, textarea, select")) return;
  if (/^[1-6]$/.test(event.key)) detail.pickTab(Number(event.key) - 1);
  if (event.key === "Enter" && event.target === document.body) list.openPicked();
  const act = keys.find(([key]) => key === event.key)?.[2];
  if (!act) return;
  event.preventDefault();
  act();
});

connection.connect();
show();
drawBadge();
