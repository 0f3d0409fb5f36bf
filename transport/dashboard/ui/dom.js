// Elements and frames. Text only ever becomes text nodes.

/** h makes an element. Attributes named on… are listeners; false and null are left out. */
export function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** setText touches the document only where something changes. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const shapes = {
  __proto__: null, // a word is not to find what objects have by themselves
  scheduled: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M8 4.8V8l2.2 1.6",
  blocked: "M5.2 3v10M10.8 3v10",
  queued: "M3 4.5h10M3 8h10M3 11.5h6",
  running: "M14 8A6 6 0 1 1 8 2",
  succeeded: "M3 8.6 6.4 12 13 4.6",
  failed: "M4 4l8 8M12 4l-8 8",
  cancelled: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2M3.8 3.8l8.4 8.4",
};

const svg = "http://www.w3.org/2000/svg";

/** stateMark is a state's icon and word; its colour comes from the style. */
export function stateMark() {
  const image = document.createElementNS(svg, "svg");
  image.setAttribute("viewBox", "0 0 16 16");
  image.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(svg, "path");
  image.append(path);
  const word = h("span");
  const node = h("span", { class: "state" }, image, word);
  return {
    node,
    show(state) {
      if (node.dataset.state === state) return;
      node.dataset.state = state;
      path.setAttribute("d", shapes[state] ?? shapes.queued);
      word.textContent = state;
    },
  };
}

/** bar is a progress bar; a fraction of null is "somewhere under way". */
export function bar() {
  const fill = h("i");
  const node = h("span", { class: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 }, fill);
  let shown;
  return {
    node,
    show(fraction) {
      if (fraction === shown) return;
      shown = fraction;
      node.classList.toggle("unknown", fraction === null);
      if (fraction === null) node.removeAttribute("aria-valuenow");
      else node.setAttribute("aria-valuenow", Math.round(fraction * 100));
      fill.style.width = fraction === null ? "" : (fraction * 100).toFixed(2) + "%";
    },
  };
}

let queue = new Set();

/**
 * onFrame calls fn before the next frame, once however often it is asked for.
 * A page in the background has no frames, and so is not updated until it is seen.
 */
export function onFrame(fn) {
  if (queue.size === 0) {
    requestAnimationFrame(() => {
      const due = queue;
      queue = new Set();
      for (const each of due) each();
    });
  }
  queue.add(fn);
}

/** toast says something in passing. */
export function toast(text, tone = "bad") {
  const place = document.getElementById("toasts");
  const node = h("div", { class: "toast", "data-tone": tone }, text);
  node.addEventListener("click", () => node.remove());
  place.append(node);
  while (place.childElementCount > 4) place.firstElementChild.remove();
  setTimeout(() => node.remove(), tone === "bad" ? 10_000 : 4_000);
}

let mentioned = new Set();

/**
 * mention is for problems of what nobody has asked for just now. Being away is
 * shown elsewhere; what is forbidden is said once.
 */
export function mention({ status, message }) {
  if (status !== 403 || mentioned.has(message)) return;
  if (mentioned.size >= 100) mentioned = new Set();
  mentioned.add(message);
  toast(message);
}

/** say is for those who hear the page. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

export async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed";
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}

/** save has the browser keep a blob as a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** modal shows a dialog that removes itself when it closes. */
export function modal(label, ...children) {
  const node = h("dialog", { "aria-label": label }, ...children);
  node.addEventListener("close", () => node.remove());
  node.addEventListener("click", (event) => { if (event.target === node) node.close(); });
  document.body.append(node);
  node.showModal();
  return node;
}

/** confirm asks before something is destroyed. */
export function confirm(question, detail, verb) {
  return new Promise((resolve) => {
    const yes = h("button", { type: "button", class: "danger", onclick: () => { dialog.returnValue = "yes"; dialog.close("yes"); } }, verb);
    const no = h("button", { type: "button", onclick: () => dialog.close("no") }, "Keep it");
    const dialog = modal(question, h("h2", null, question), h("p", null, detail), h("div", { class: "actions" }, no, yes));
    dialog.classList.add("small");
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
    yes.focus();
  });
}
