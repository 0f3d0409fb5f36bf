// JSON whose numbers stay as they were written: 9007199254740993 and 1.0 come
// out as they went in, where the browser can (JSON.rawJSON).

const exact = typeof JSON.rawJSON === "function";

// Most messages have no number that a double would change: they are read fast.
const risky = /[:,[\s]-?(?:\d{16,}|\d+\.\d{15,}|\d+\.\d*0[,\]}\s]|[\d.]+[eE])/;

function keep(_key, value, context) {
  if (typeof value !== "number" || context?.source === undefined || String(value) === context.source) return value;
  return JSON.rawJSON(context.source);
}

export function parse(text) {
  return exact && risky.test(text) ? JSON.parse(text, keep) : JSON.parse(text);
}

/** number is for those numbers that are computed with. */
export function number(value) {
  if (typeof value === "number") return value;
  return exact && JSON.isRawJSON(value) ? Number(value.rawJSON) : null;
}

/** pretty spreads a value over lines, unless it fits into one. */
export function pretty(value, width = 100) {
  const line = JSON.stringify(value);
  return line === undefined || line.length <= width ? line ?? "" : JSON.stringify(value, null, 2);
}

const token = /("(?:\\.|[^"\\])*")(\s*:)?|-?\d[\d.eE+-]*|\b(?:true|false|null)\b/g;
const mostColoured = 100_000;

/** coloured makes text nodes and spans of JSON. */
export function coloured(text) {
  const out = document.createDocumentFragment();
  if (text.length > mostColoured) {
    out.append(text);
    return out;
  }
  let from = 0;
  for (const match of text.matchAll(token)) {
    out.append(text.slice(from, match.index));
    const span = document.createElement("span");
    const [all, string, colon] = match;
    span.className = string ? (colon ? "j-key" : "j-string") : /^[-\d]/.test(all) ? "j-number" : "j-word";
    span.textContent = string ?? all;
    out.append(span, colon ?? "");
    from = match.index + all.length;
  }
  out.append(text.slice(from));
  return out;
}
