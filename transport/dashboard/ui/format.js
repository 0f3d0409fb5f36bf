// Times, sizes and states in words.

export const states = ["scheduled", "blocked", "queued", "running", "succeeded", "failed", "cancelled"];
export const ended = (state) => state === "succeeded" || state === "failed" || state === "cancelled";

// The server's clock is what its times are of.
let ahead = 0;
export const setClock = (milliseconds) => { ahead = milliseconds; };
export const now = () => Date.now() + ahead;

export function duration(ms) {
  if (!(ms >= 0)) ms = 0;
  if (ms < 1000) return Math.round(ms) + " ms";
  const s = ms / 1000;
  if (s < 10) return s.toFixed(1) + " s";
  if (s < 60) return Math.floor(s) + " s";
  if (s < 3600) return Math.floor(s / 60) + " m " + two(s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + two((s % 3600) / 60) + " m";
  return Math.floor(s / 86400) + " d " + Math.floor((s % 86400) / 3600) + " h";
}

const two = (n) => String(Math.floor(n)).padStart(2, "0");

/** coarse is a duration that need not be looked at every second. */
export function coarse(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 5) return "now";
  if (s < 60) return Math.floor(s / 5) * 5 + " s";
  if (s < 3600) return Math.floor(s / 60) + " m";
  if (s < 86400) return Math.floor(s / 3600) + " h";
  return Math.floor(s / 86400) + " d";
}

const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const today = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const other = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** moment is a time in full; brief leaves out what goes without saying. */
export const moment = (time) => whole.format(new Date(time));
export function brief(time) {
  const date = new Date(time);
  return (date.toDateString() === new Date(now()).toDateString() ? today : other).format(date);
}

export const count = (n) => n.toLocaleString("en").replaceAll(",", "\u202f");

export function size(bytes) {
  if (bytes < 1024) return bytes + " B";
  if (bytes < 1024 * 1024) return (bytes / 1024).toFixed(1) + " KiB";
  return (bytes / 1024 / 1024).toFixed(1) + " MiB";
}

export const clip = (text, most) => text.length <= most ? text : text.slice(0, most) + "… " + count(text.length - most) + " more characters";

/** milliseconds of a Go duration such as "1m30s"; a number is milliseconds already. */
export function milliseconds(text) {
  if (typeof text === "number") return text;
  const units = { ns: 1e-6, us: 1e-3, "µs": 1e-3, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  let sum = 0;
  for (const [, n, unit] of String(text ?? "").slice(0, 100).matchAll(/([\d.]+)(ns|us|µs|ms|s|m|h)/g)) sum += Number(n) * units[unit];
  return sum;
}

/** spent is how long the newest attempt has taken, or took; null before the first. */
export function spent(task) {
  if (!task.started_at) return null;
  if (task.state === "running") return now() - Date.parse(task.started_at);
  return ended(task.state) && task.finished_at ? Date.parse(task.finished_at) - Date.parse(task.started_at) : null;
}

/** remaining guesses from the pace so far; null where there is nothing to go by. */
export function remaining(task) {
  const p = task.progress;
  if (task.state !== "running" || !p || !(p.fraction > 0.005) || p.fraction >= 1 || !task.started_at) return null;
  const at = Date.parse(p.at);
  const taken = at - Date.parse(task.started_at);
  if (taken < 500) return null;
  return Math.max(0, taken / p.fraction * (1 - p.fraction) - (now() - at));
}

/** after orders two cursors. */
export function after(a, b) {
  if (!b) return true;
  const [attemptA, seqA] = a.split(".").map(Number);
  const [attemptB, seqB] = b.split(".").map(Number);
  return attemptA > attemptB || (attemptA === attemptB && seqA > seqB);
}
