// The form that submits a task. The payload is sent as it was typed.
import { h, modal, toast } from "./dom.js";
import * as api from "./api.js";

export const examples = {
  "demo.sleep": '{"duration":"8s","steps":80}',
  "demo.stream": '{"chunks":400,"interval":"20ms","size":48}',
  "demo.echo": '{"hello":"world","big":9007199254740993}',
  "demo.flaky": '{"failures":2}',
  "demo.panic": '{"message":"as asked"}',
  "exec": '{"command":["sh","-c","for i in 1 2 3 4 5; do echo line $i; sleep 1; done"]}',
  "http": '{"url":"https://example.com/"}',
};

const newKey = () => crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16)).join("");

export async function runDemo(kind, done) {
  try {
    done(await api.submit({ kind }, examples[kind], newKey()));
  } catch (problem) {
    toast(problem.message);
  }
}

/** syntax says what is wrong with a JSON text, or nothing. */
function syntax(text) {
  if (text.trim() === "") return "";
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return error.message.replace(/^JSON\.parse: /, "");
  }
}

export function openForm(kinds, done) {
  const known = Object.keys(examples).filter((kind) => kinds.includes(kind));
  const first = known[0] ?? "";
  const key = newKey();
  const wrong = h("p", { class: "wrong", role: "alert" });
  const input = (name, attributes) => h("input", { name, autocomplete: "off", spellcheck: "false", ...attributes });
  const kind = input("kind", { required: true, list: "kinds", value: first, placeholder: "demo.sleep", pattern: "[a-z0-9._\\-]{1,100}", title: "a-z 0-9 . _ -" });
  const payload = h("textarea", { name: "payload", rows: 7, spellcheck: "false", value: examples[first] ?? "", "aria-describedby": "payload-wrong" });
  const payloadWrong = h("p", { class: "wrong", id: "payload-wrong", "aria-live": "polite" });
  const queue = input("queue", { placeholder: "default", pattern: "[a-z0-9._\\-]{1,100}", title: "a-z 0-9 . _ -" });
  const priority = input("priority", { type: "number", min: -100, max: 100, step: 1, placeholder: "0" });
  const delay = input("delay", { placeholder: "none, or 30s", pattern: "([0-9.]+(ns|us|µs|ms|s|m|h))+", title: 'A duration such as "1.5s" or "30m"' });
  const attempts = input("max_attempts", { type: "number", min: 1, max: 1000, step: 1, placeholder: "3" });
  const field = (label, control, ...more) => h("label", { class: "field" }, h("span", null, label), control, ...more);
  const send = h("button", { class: "primary" }, "Submit");

  const check = () => {
    const fault = syntax(payload.value);
    payloadWrong.textContent = fault;
    payload.setCustomValidity(fault);
    payload.setAttribute("aria-invalid", fault !== "");
  };
  payload.addEventListener("input", check);
  payload.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  const fill = (name) => {
    kind.value = name;
    payload.value = examples[name] ?? "";
    check();
    payload.focus();
  };

  const form = h("form", null,
    h("h2", null, "Submit a task"),
    known.length === 0 ? null : h("div", { class: "examples", role: "group", "aria-label": "Examples" },
      known.map((name) => h("button", { type: "button", onclick: () => fill(name) }, name))),
    field("Kind", kind), h("datalist", { id: "kinds" }, kinds.map((name) => h("option", { value: name }))),
    field("Payload, any JSON", payload, payloadWrong),
    h("div", { class: "fields" }, field("Queue", queue), field("Priority, −100 to 100", priority), field("Delay", delay), field("Attempts at most", attempts)),
    wrong,
    h("div", { class: "actions" }, h("span", { class: "hint" }, "Ctrl Enter submits"), h("button", { type: "button", onclick: () => dialog.close() }, "Close"), send));

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    send.disabled = true;
    const fields = { kind: kind.value.trim() };
    if (queue.value.trim()) fields.queue = queue.value.trim();
    if (priority.value) fields.priority = Number(priority.value);
    if (delay.value.trim()) fields.delay = delay.value.trim();
    if (attempts.value) fields.max_attempts = Number(attempts.value);
    try {
      const task = await api.submit(fields, payload.value.trim(), key + "-" + fingerprint(fields, payload.value));
      dialog.close();
      done(task);
    } catch (problem) {
      wrong.textContent = [problem.message, ...(problem.fields ?? []).map((f) => f.path + " " + f.message)].join("\n");
    } finally {
      send.disabled = false;
    }
  });

  const dialog = modal("Submit a task", form);
  (first ? payload : kind).focus();
  return dialog;
}

// A form that is changed and sent again is another request: a key that was used
// with another body would be refused.
function fingerprint(fields, payload) {
  let sum = 0;
  for (const c of JSON.stringify(fields) + payload) sum = (Math.imul(sum, 31) + c.codePointAt(0)) >>> 0;
  return sum.toString(16);
}
