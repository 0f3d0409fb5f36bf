// The one connection. What is subscribed stays subscribed over a reconnect: a
// task from behind its last cursor, so that each event is shown once.
import { parse } from "./json.js";
import { after, milliseconds, setClock } from "./format.js";

const firstDelay = 500;
const mostDelay = 30_000;
const settled = 5_000; // a connection that lived this long was a good one
const quiet = 10_000; // after which the server is asked whether it is there
const patience = 8_000; // for its answer
const batchMost = 100;

export class Connection {
  #url;
  #door;
  #random;
  #knocking = false; // the door has not answered yet
  #socket = null;
  #opened = 0;
  #heard = 0;
  #pinged = 0;
  #tries = 0;
  #fruitful = false; // it brought something new
  #goodbye = null;
  #timer = 0;
  #refused = "";
  #next = 1;
  #calls = new Map();
  #subscriptions = new Set();
  #named = new Map();

  /** sessions counts the connections so far. */
  sessions = 0;

  /** onforbidden is called with the server's words when it will not have us. */
  onforbidden = null;

  /**
   * door has admit(), which gives what to add to the URL, and refused(), which is
   * told of a credential that is no good any more and says whether to come back.
   */
  constructor(url, door, random = Math.random) {
    this.#url = url;
    this.#door = door;
    this.#random = random;
    this.#heard = performance.now();
    setInterval(() => this.#watch(), 1000);
    addEventListener("online", () => this.#wake());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.#wake(); });
  }

  /** status is what the badge shows: how it stands, and for how long nothing was heard. */
  status() {
    const seconds = Math.round((performance.now() - this.#heard) / 1000);
    if (this.#refused) return { kind: "refused", text: this.#refused };
    const open = this.#socket?.readyState === WebSocket.OPEN;
    const unanswered = this.#pinged && performance.now() - this.#pinged > 3000;
    if (open && !unanswered) return { kind: "live", text: "live" };
    if (seconds < 3) return { kind: "reconnecting", text: this.sessions ? "reconnecting" : "connecting" };
    return { kind: "stale", text: "stale " + seconds + " s" };
  }

  /** hurry tries at once what would be tried later, or not at all. */
  hurry() {
    if (this.#socket !== null || this.#knocking) return;
    this.#refused = "";
    this.connect();
  }

  #wake() { if (!this.#refused) this.hurry(); }

  async connect() {
    clearTimeout(this.#timer);
    this.#knocking = true;
    try {
      this.#dial(this.#url + await this.#door.admit());
    } catch (problem) {
      this.#denied(problem);
    } finally {
      this.#knocking = false;
    }
  }

  #dial(url) {
    const socket = new WebSocket(url, "troupe.v1.json");
    this.#socket = socket;
    socket.onopen = () => this.#open();
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
  }

  /**
   * subscribe follows {"task":ID} or {"tasks":filter} until the subscription is
   * closed. on has snapshot(result), event(event), end(), gap(first), reset(tasks)
   * and error(problem); all but event may be left out.
   */
  subscribe(params, on) {
    const sub = { params, on, cursor: null, name: null, ended: false, asked: 0 };
    this.#subscriptions.add(sub);
    if (this.#isOpen()) this.#send([this.#asking(sub)]);
    return {
      close: () => this.#forget(sub),
      /** again follows a task anew that had ended, from where it was left. */
      again: () => {
        if (!sub.ended) return;
        sub.ended = false;
        if (this.#isOpen()) this.#send([this.#asking(sub)]);
      },
    };
  }

  #isOpen() { return this.#socket?.readyState === WebSocket.OPEN; }

  #open() {
    this.#opened = this.#heard = performance.now();
    this.#pinged = 0;
    this.sessions++;
    const messages = [this.#ping()];
    for (const sub of this.#subscriptions) if (!sub.ended) messages.push(this.#asking(sub));
    this.#send(messages);
  }

  #asking(sub) {
    const params = sub.cursor === null ? sub.params : { ...sub.params, after: sub.cursor };
    const asked = ++sub.asked;
    return this.#request("subscribe", params, (result) => {
      if (sub.asked !== asked || !this.#subscriptions.has(sub)) return;
      sub.name = result.subscription;
      this.#named.set(sub.name, sub);
      sub.on.snapshot?.(result);
    }, (problem) => {
      if (sub.asked !== asked || !this.#subscriptions.has(sub)) return;
      if (problem.code === "cursor_ahead" && sub.cursor !== null) {
        // This server's log is shorter than what was seen: another store, or a restored one.
        sub.cursor = null;
        sub.on.gap?.(null);
        this.#send([this.#asking(sub)]);
        return;
      }
      this.#subscriptions.delete(sub);
      sub.on.error?.(problem);
    });
  }

  #forget(sub) {
    if (!this.#subscriptions.delete(sub)) return;
    if (sub.name === null || this.#named.get(sub.name) !== sub) return;
    this.#named.delete(sub.name);
    if (!sub.ended && this.#isOpen()) this.#send([this.#request("unsubscribe", { subscription: sub.name })]);
  }

  #request(method, params, done = () => {}, failed = () => {}) {
    const id = this.#next++;
    this.#calls.set(id, { done, failed });
    return { jsonrpc: "2.0", id, method, params };
  }

  #ping() {
    const sent = Date.now();
    this.#pinged = performance.now();
    return this.#request("ping", {}, ({ at }) => {
      this.#pinged = 0;
      const here = (sent + Date.now()) / 2;
      if (at) setClock(Date.parse(at) - here);
    });
  }

  #send(messages) {
    for (let i = 0; i < messages.length; i += batchMost) {
      const part = messages.slice(i, i + batchMost);
      this.#socket.send(JSON.stringify(part.length === 1 ? part[0] : part));
    }
  }

  #receive(text) {
    this.#heard = performance.now();
    const message = parse(text);
    // Answers are taken in order with the notifications around them, never later:
    // a subscription's first events may stand right behind its answer.
    for (const each of Array.isArray(message) ? message : [message]) {
      if (each.method) this.#notified(each.method, each.params ?? {});
      else this.#answered(each);
    }
  }

  #answered({ id, result, error }) {
    const call = this.#calls.get(id);
    if (!call) return;
    this.#calls.delete(id);
    if (error) call.failed(error.data?.code ? error.data : { code: String(error.code), detail: error.message });
    else call.done(result ?? {});
  }

  #notified(method, params) {
    if (method === "goodbye") {
      this.#goodbye = performance.now() + milliseconds(params.delay);
      return;
    }
    const sub = this.#named.get(params.subscription);
    if (!sub) return;
    switch (method) {
      case "event": {
        const event = params.event;
        if (sub.params.task) {
          if (!after(event.cursor, sub.cursor)) return;
          sub.cursor = event.cursor;
          this.#fruitful = true;
        }
        sub.on.event(event);
        break;
      }
      case "end":
        sub.ended = true;
        this.#named.delete(sub.name);
        sub.on.end?.();
        break;
      case "gap":
        sub.on.gap?.(params.first);
        break;
      case "reset":
        sub.on.reset?.(params.tasks ?? []);
        break;
    }
  }

  /** watch looks whether the server is still there: a browser does not see its pings. */
  #watch() {
    if (!this.#isOpen()) return;
    const time = performance.now();
    if (this.#pinged && time - this.#pinged > patience) {
      const socket = this.#socket;
      this.#lost(0, "");
      socket.close(4000, "silent");
    } else if (!this.#pinged && time - this.#heard > quiet) {
      this.#send([this.#ping()]);
    }
  }

  #lost(code, reason) {
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket = null;
    this.#calls.clear();
    this.#named.clear();
    const long = this.#opened && performance.now() - this.#opened > settled;
    const asked = code >= 4200 && code < 4300; // to come more seldom
    if (long || this.#fruitful && !asked) this.#tries = 0;
    this.#opened = 0;
    this.#fruitful = false;
    if (code >= 4400 && code < 4500) this.#turnedAway(code, reason);
    else this.#later(this.#delay(code));
  }

  #later(delay) {
    this.#timer = setTimeout(() => this.connect(), delay);
    this.#tries++;
  }

  async #turnedAway(code, reason) {
    this.#refused = code === 4403 ? "forbidden" : reason || "refused";
    if (code === 4403) this.onforbidden?.(reason);
    if (code === 4401 && await this.#door.refused()) this.hurry();
  }

  /** denied is told why the door stays closed. */
  #denied({ status, message, retryAfter }) {
    if (status === 401) this.#refused = "signed out";
    else if (status === 403) {
      this.#refused = "forbidden";
      this.onforbidden?.(message);
    } else this.#later(Math.max(retryAfter ?? 0, this.#delay(0)));
  }

  /** delay says how long to wait before the next try, by the rules of the close codes. */
  #delay(code) {
    // A goodbye comes some time before the end it tells of.
    const due = this.#goodbye;
    this.#goodbye = null;
    if (due !== null) return Math.max(0, due - performance.now()) + this.#random() * 100;
    if (code >= 4100 && code < 4200 && this.#tries === 0) return this.#random() * 100;
    // What the server calls our own fault will hardly be better a moment later.
    const floor = [1002, 1003, 1007, 1008, 1009].includes(code) ? mostDelay / 2 : 0;
    return floor + this.#random() * Math.min(mostDelay, firstDelay * 2 ** this.#tries);
  }
}
