// Who is at the page. A server may ask for a key: it is kept for this tab, or on
// this machine where that was asked for, and shown to nobody but the server.
import { Problem, send } from "./http.js";
import { askKey } from "./login.js";

const place = "troupe.key";
const everybody = { open: true, namespace: "default", scopes: ["admin"] };

// Asked for each time, as a browser may refuse.
const inTab = () => sessionStorage;
const onMachine = () => localStorage;

let key = stored(inTab) ?? stored(onMachine);
let me = null; // what the key stands for; null until the server has said
let gone = false; // a key is asked for, and the question was put off
let asking = null; // the one question, for all calls that wait for it
let admitted = null; // the key that the socket was opened with
const listeners = [];

// ---- where the key is kept

function stored(of) {
  try {
    return of().getItem(place);
  } catch {
    return null;
  }
}

function store(of, value) {
  try {
    if (value === null) of().removeItem(place);
    else of().setItem(place, value);
  } catch {
    // It lasts until the page is left.
  }
}

function keep(value, here) {
  key = value;
  store(inTab, here ? null : value);
  if (here) store(onMachine, value);
}

/** drop forgets the key, and not what another tab has been given since. */
function drop() {
  for (const where of [inTab, onMachine]) if (stored(where) === key) store(where, null);
  key = null;
}

// ---- what the page may ask

/** standing is unknown until the server has spoken; then open, in or out. */
export function standing() {
  if (gone || asking) return "out";
  if (me === null) return "unknown";
  return me.open ? "open" : "in";
}

export const who = () => me;
export const may = (scope) => ["open", "in"].includes(standing()) && (me.scopes.includes(scope) || me.scopes.includes("admin"));

/** changed calls fn whenever it stands otherwise than before. */
export const changed = (fn) => listeners.push(fn);
const tell = () => { for (const fn of listeners) fn(); };

// ---- calls

const unauthorised = () => new Problem({ code: "unauthorized", detail: "Sign in with an API key first." }, 401);

/** authorised makes a call with the key; and again with another, should it be refused. */
export async function authorised(call) {
  for (;;) {
    await asking;
    if (gone) throw unauthorised();
    const used = key;
    try {
      return await call(used);
    } catch (problem) {
      if (problem.status !== 401) throw problem;
      await renew(used);
    }
  }
}

/**
 * admit gives what the socket's address ends in. A browser cannot send a header
 * with it: a ticket, good for one connection, stands for the key.
 */
export const admit = () => authorised(async (used) => {
  if (me === null || used === null) await settle(await ask(used));
  admitted = key;
  if (key === null) return "";
  try {
    const { ticket } = await send("POST", "/v1/tickets", { key });
    return "?ticket=" + encodeURIComponent(ticket);
  } catch (problem) {
    if (problem.status === 404) return ""; // it has no tickets
    throw problem;
  }
});

/** refused is told when the socket was closed because of its key. It says whether to come back. */
export async function refused() {
  if (admitted === null) return false;
  await renew(admitted);
  return !gone;
}

/** ask says what a key stands for. A server that does not know the question has no keys. */
async function ask(of) {
  try {
    const { open, namespace, scopes, expires_at: expires } = await send("GET", "/v1/me", { key: of });
    return { open: open === true, namespace: String(namespace), scopes: Array.isArray(scopes) ? scopes.map(String) : [], expires };
  } catch (problem) {
    if (problem.status === 404) return everybody;
    throw problem;
  }
}

async function settle(found) {
  const before = me;
  if (found.open) key = null;
  me = found;
  gone = false;
  if (before !== null && (before.namespace !== found.namespace || before.open !== found.open)) {
    // Nothing of one namespace may be left on the page of another.
    await afresh();
  }
  tell();
}

// ---- the question

/** renew asks for another key than the one used, unless there is one already. */
async function renew(used) {
  if (used !== key && !asking) return;
  if (!asking) {
    asking = question(used).finally(() => {
      asking = null;
      tell();
    });
    tell();
  }
  await asking;
}

async function question(used) {
  if (used !== null) {
    drop();
    // It may be a server that asks for no key, but takes no wrong one either.
    const found = await ask(null).catch(() => null);
    if (found) return settle(found);
  }
  gone = !await askKey(used !== null, check);
}

/** check asks the server about a key, and gives what takes it. */
async function check(given) {
  const found = await ask(given);
  return (here) => {
    keep(given, here);
    return settle(found);
  };
}

/** signIn asks the question that was put off. */
export async function signIn() {
  gone = false;
  tell();
  try {
    await authorised(async (used) => settle(await ask(used)));
  } catch {
    // It was put off again, or the server is away: the badge says so.
  }
}

/** signOut forgets the key, here and in the other tabs that took it from this machine. */
export function signOut() {
  if (stored(inTab) === null) tabs.postMessage("signed out");
  leave();
}

const tabs = new BroadcastChannel("troupe");
tabs.onmessage = () => { if (key !== null && stored(inTab) === null) leave(); };

function leave() {
  key = null;
  store(inTab, null);
  store(onMachine, null);
  afresh();
}

/** afresh begins anew with an empty page; what waits for it waits for good. */
function afresh() {
  history.replaceState(null, "", location.pathname);
  location.reload();
  return new Promise(() => {});
}
