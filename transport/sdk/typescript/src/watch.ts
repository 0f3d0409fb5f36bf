import { whyNot, type Settings } from "./calls.js";
import { before, type TaskEvent } from "./events.js";
import type { Task } from "./openapi.js";
import { Problem, Unreachable } from "./problem.js";
import { closedProblem, connect, final, type Closed, type Connection, type Message, type WebSocketMaker } from "./socket.js";
import { Backoff, milliseconds, sleep } from "./time.js";

export interface Filter {
  state?: string[];
  kind?: string;
  queue?: string;
  label?: Record<string, string>;
  batch_id?: string;
  created_after?: string;
  created_before?: string;
}

/** What to watch: a task from behind a cursor, a batch, a queue, or all tasks that match. */
export type Topic = { task: string; after?: string } | { batch: string } | { queue: string } | { tasks: Filter };

/** What a watcher is told. */
export type Watched =
  | { kind: "snapshot"; task?: Task; tasks?: Task[] }
  | { kind: "event"; event: TaskEvent }
  | { kind: "gap"; first: string }
  | { kind: "reset"; tasks: Task[] }
  | { kind: "end"; counts?: Record<string, number> };

const subprotocol = "troupe.v1.json";
const batchMost = 100;

// A consumer that is this far behind is served from the log once it has caught up.
const queueMost = 1024;

// After so many milliseconds of silence the server is asked whether it is there, and has so many to answer: a page does
// not see the protocol's own pings.
const quiet = 20_000;
const answering = 10_000;

// So many connections in a row that bring nothing, of a server that answers otherwise, are enough for who never had one.
const vainMost = 3;

/** One topic that somebody watches, over as many connections as it takes. */
export class Subscription {
  /** What is asked for: a task from behind its last event. */
  readonly topic: Topic;
  /** Tells it from others of the same connection. */
  readonly key: string;
  /** The topic's name on the connection that there is. */
  name: string | null = null;
  paused = false;
  ended = false;
  /** Counts how often it was asked for, so that answers to earlier askings are known as such. */
  asked = 0;
  /** Whether it was ever answered. */
  answered = false;
  #queue: Watched[] = [];
  #failure: { reason: unknown } | undefined;
  #wake = () => {};

  constructor(topic: Topic) {
    this.topic = { ...topic };
    this.key = JSON.stringify("task" in topic ? { task: topic.task } : topic);
  }

  take(item: Watched): void {
    if (this.#failure || this.ended) return;
    if (item.kind === "event" && "task" in this.topic) {
      const { cursor } = item.event;
      if (this.topic.after !== undefined && !before(this.topic.after, cursor)) return;
      this.topic.after = cursor;
    }
    this.ended = item.kind === "end";
    this.#queue.push(item);
    this.#wake();
  }

  fail(reason: unknown): void {
    this.#failure ??= { reason };
    this.#wake();
  }

  get full(): boolean {
    return this.#queue.length >= queueMost;
  }

  /** Yields what there is and what comes. */
  async *items(find: () => Socket, signal?: AbortSignal): AsyncGenerator<Watched, void, undefined> {
    const abort = () => this.fail(signal?.reason);
    signal?.throwIfAborted();
    signal?.addEventListener("abort", abort);
    const socket = find();
    socket.join(this);
    try {
      for (;;) {
        for (let item = this.#queue.shift(); item !== undefined; item = this.#queue.shift()) {
          signal?.throwIfAborted();
          yield item;
          if (item.kind === "end") return;
        }
        if (this.#failure) throw this.#failure.reason;
        if (this.paused) socket.resume(this);
        await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      socket.leave(this);
    }
  }
}

/** One connection for many subscriptions, opened again as long as there is one. */
export class Socket {
  #settings: Settings;
  #make: WebSocketMaker | undefined;
  #subscriptions = new Set<Subscription>();
  #named = new Map<string, Subscription>();
  #calls = new Map<number, (message: Message) => void>();
  #connection: Connection | null = null; // greeted
  #next = 1;
  #running = false;
  #most = 1000;
  #left = () => {}; // tells that the last subscription is gone
  #goodbye: number | undefined; // when the server that said it is gone
  #fruitful = false; // something came
  #asked: { at: number; connection: Connection } | undefined; // whether it is there

  constructor(settings: Settings, make: WebSocketMaker | undefined) {
    this.#settings = settings;
    this.#make = make;
  }

  /** Whether it can take a subscription: a connection has each topic once. */
  fits(s: Subscription): boolean {
    if (this.#subscriptions.size >= this.#most) return false;
    return ![...this.#subscriptions].some((other) => other.key === s.key);
  }

  get idle(): boolean {
    return this.#subscriptions.size === 0;
  }

  join(s: Subscription): void {
    this.#subscriptions.add(s);
    if (this.#connection) this.#connection.send(this.#asking(s));
    if (!this.#running) void this.#run();
  }

  leave(s: Subscription): void {
    if (!this.#subscriptions.delete(s)) return;
    this.#unsubscribe(s);
    if (this.idle) this.#left();
  }

  /** Goes on with a subscription that its consumer had fallen behind. */
  resume(s: Subscription): void {
    s.paused = false;
    this.#connection?.send(this.#asking(s));
  }

  #unsubscribe(s: Subscription): void {
    if (s.name !== null && this.#named.get(s.name) === s) {
      this.#named.delete(s.name);
      if (!s.ended) this.#connection?.send(this.#request("unsubscribe", { subscription: s.name }, () => {}));
    }
    s.name = null;
    s.asked++;
  }

  async #run(): Promise<void> {
    this.#running = true;
    const backoff = new Backoff();
    for (let vain = 0; !this.idle; ) {
      let floor = 0;
      try {
        this.#fruitful = false;
        const closed = await this.#converse();
        if (this.idle) break;
        if (final(closed)) throw closedProblem(closed);
        vain = this.#fruitful ? 0 : vain + 1;
        if (vain > 0) await whyNot(this.#settings);
        if (vain >= vainMost) throw new Unreachable(`the server answers, but no WebSocket opens: ${closed.code} ${closed.reason}`);
        if (this.#fruitful && (closed.code < 4200 || closed.code >= 4300)) backoff.reset();
        // What the server calls our fault will hardly be better at once; one that goes said when it is gone.
        if (closed.code === 1008) floor = 5_000;
        if (this.#goodbye !== undefined) floor = Math.max(0, this.#goodbye - performance.now());
      } catch (e) {
        floor = this.#failed(e);
      }
      if (!this.idle) await this.#rest(backoff.next(floor));
    }
    this.#running = false;
  }

  /** Follows what there is to follow over one connection, until it ends. */
  async #converse(): Promise<Closed> {
    this.#goodbye = undefined;
    const connection = await connect(this.#settings, this.#make, "/v1/ws", subprotocol, {
      message: (message, on) => this.#take(on, message),
    });
    const alive = setInterval(() => this.#look(connection), 1000);
    this.#left = () => connection.close();
    if (this.idle) connection.close();
    try {
      return await connection.closed;
    } finally {
      clearInterval(alive);
      this.#connection = null;
      this.#left = () => {};
      this.#calls.clear();
      this.#named.clear();
    }
  }

  /** Notes why there is no connection, and says how many milliseconds the server wants to be left alone. */
  #failed(e: unknown): number {
    const passing = e instanceof Problem && (e.passing || [429, 500].includes(e.status));
    if (passing) return e.retryAfter ?? 0;
    for (const s of this.#subscriptions) {
      // One that was served before waits for the server to come back.
      if (e instanceof Unreachable && s.answered) continue;
      this.#subscriptions.delete(s);
      s.fail(e);
    }
    return 0;
  }

  /** Waits until it is time, or nobody is left to wait for. */
  async #rest(delay: number): Promise<void> {
    const stop = new AbortController();
    this.#left = () => stop.abort();
    await sleep(delay, stop.signal).catch(() => {});
    this.#left = () => {};
  }

  #take(connection: Connection, message: Message): void {
    if (message.method === undefined) {
      const call = this.#calls.get(message.id ?? 0);
      this.#calls.delete(message.id ?? 0);
      call?.(message);
      return;
    }
    const params = message.params ?? {};
    if (message.method === "hello") return this.#greeted(connection, params);
    if (message.method === "goodbye") {
      this.#goodbye = performance.now() + (typeof params["delay"] === "string" ? milliseconds(params["delay"]) : 0);
      return;
    }
    const s = this.#named.get(String(params["subscription"]));
    if (s === undefined) return;
    this.#fruitful = true;
    const item = notified(message.method, params);
    if (item === undefined) return;
    s.take(item);
    if (s.ended) this.#named.delete(String(params["subscription"]));
    else if (s.full) {
      this.#unsubscribe(s);
      s.paused = true;
    }
  }

  #greeted(connection: Connection, params: Record<string, unknown>): void {
    this.#connection = connection;
    const limits = params["limits"] as { subscriptions?: number } | undefined;
    this.#most = limits?.subscriptions ?? this.#most;
    const all = [...this.#subscriptions].filter((s) => !s.ended && !s.paused).map((s) => this.#asking(s));
    for (let i = 0; i < all.length; i += batchMost) connection.send(all.slice(i, i + batchMost));
  }

  #asking(s: Subscription): unknown {
    const asked = ++s.asked;
    return this.#request("subscribe", s.topic, (message) => {
      if (s.asked !== asked || !this.#subscriptions.has(s)) return;
      if (message.error) return this.#refused(s, message.error);
      const { subscription, task, tasks } = (message.result ?? {}) as { subscription?: string; task?: Task; tasks?: Task[] };
      s.name = String(subscription);
      this.#named.set(s.name, s);
      this.#fruitful = true;
      if (!s.answered) s.take({ kind: "snapshot", ...(task && { task }), ...(tasks && { tasks }) });
      // A feed has no cursor: what it missed is in the new view.
      else if (!("task" in s.topic)) s.take({ kind: "reset", tasks: tasks ?? [] });
      s.answered = true;
    });
  }

  #refused(s: Subscription, error: NonNullable<Message["error"]>): void {
    const problem = Problem.of(500, error.data ?? { title: "Refused", status: 400, code: "refused", detail: error.message });
    if (problem.status >= 500 || problem.status === 429) {
      this.#connection?.abandon("the server cannot serve it now"); // and may at the next try
      return;
    }
    this.#subscriptions.delete(s);
    s.fail(problem);
    if (this.idle) this.#left();
  }

  #request(method: string, params: unknown, answered: (message: Message) => void): unknown {
    const id = this.#next++;
    this.#calls.set(id, answered);
    return { jsonrpc: "2.0", id, method, params };
  }

  #look(connection: Connection): void {
    const now = performance.now();
    if (this.#asked?.connection === connection) {
      if (now - this.#asked.at > answering) connection.abandon("it is silent");
    } else if (this.#connection === connection && now - connection.heard > quiet) {
      this.#asked = { at: now, connection };
      connection.send(this.#request("ping", {}, () => (this.#asked = undefined)));
    }
  }
}

function notified(method: string, params: Record<string, unknown>): Watched | undefined {
  switch (method) {
    case "event":
      return { kind: "event", event: params["event"] as TaskEvent };
    case "gap":
      return { kind: "gap", first: String(params["first"]) };
    case "reset":
      return { kind: "reset", tasks: (params["tasks"] ?? []) as Task[] };
    case "end": {
      const counts = params["counts"] as Record<string, number> | undefined;
      return counts ? { kind: "end", counts } : { kind: "end" };
    }
  }
  return undefined;
}
