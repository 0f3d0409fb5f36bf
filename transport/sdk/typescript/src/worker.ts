import { Attempt, Cancelled, Failure, type Run, type StopReason } from "./attempt.js";
import { whyNot, type Settings } from "./calls.js";
import { settingsOf, type ClientOptions } from "./client.js";
import { Desk } from "./desk.js";
import { Problem, Unreachable } from "./problem.js";
import { closedProblem, connect, final, type Closed, type Connection, type Message, type WebSocketMaker } from "./socket.js";
import { Backoff, milliseconds, sleep } from "./time.js";

export interface WorkerOptions extends ClientOptions {
  /** For people, to tell workers apart. */
  name?: string;
  /** So many attempts run at once; 1. */
  slots?: number;
  labels?: Record<string, string>;
  resources?: Record<string, number | string>;
  /** So many milliseconds attempts have to end when the worker stops; 30,000. */
  drainTimeout?: number;
}

/** What it gives, as JSON, is the task's result. It throws a Failure to say how it failed. */
export type Handler<Payload = unknown> = (attempt: Attempt<Payload>) => unknown;

const subprotocol = "troupe.worker.v1.json";

/** How long attempts have to stop once they were told to, in milliseconds. */
const grace = 5_000;

// A worker that was drained stays this long behind its last attempt: a node that shuts down says goodbye meanwhile, and
// then the worker goes on elsewhere.
const afterDrain = 60_000;

/** Takes tasks of the kinds it has handlers for, and runs them. */
export class Worker {
  #settings: Settings;
  #make: WebSocketMaker | undefined;
  #registration: Record<string, unknown>;
  #drainTimeout: number;
  #handlers = new Map<string, Handler<never>>();
  #desk = new Desk();
  #session: string | undefined;
  #lease = 15_000;
  #lost = performance.now(); // when the last connection was
  #stopping: number | undefined; // since when
  #hurry = false;
  #drained: number | undefined; // since when the server wants no more of us
  #goodbye = 0; // how long the server that goes wants to be left alone
  #wake = () => {};

  constructor(options: WorkerOptions = {}) {
    this.#settings = settingsOf(options);
    this.#make = options.WebSocket;
    this.#drainTimeout = options.drainTimeout ?? 30_000;
    const { name = `node-${Math.random().toString(36).slice(2, 10)}`, slots = 1, labels = {}, resources = {} } = options;
    this.#registration = { name, slots, labels, resources };
  }

  /** Makes a function the handler of a kind. */
  task<Payload = unknown>(kind: string, handler: Handler<Payload>): this {
    if (this.#handlers.has(kind)) throw new TypeError(`${kind} has a handler already`);
    this.#handlers.set(kind, handler);
    return this;
  }

  /** Takes no more, and has `run` resolve when what runs has ended. A second time: has it stop. */
  stop(): void {
    this.#hurry = this.#stopping !== undefined;
    this.#stopping ??= performance.now();
    this.#desk.note("drain");
    this.#wake();
  }

  /**
   * Runs tasks until the worker is stopped: by `stop`, in Node by SIGTERM or SIGINT, or by the operator who drains it.
   *
   * A connection that breaks is opened again; what runs goes on meanwhile, for as long as the server keeps it. Rejects with
   * Unreachable if the first connection finds no server, and with a Problem if the server wants no such worker.
   */
  async run(): Promise<void> {
    if (this.#handlers.size === 0) throw new TypeError("a worker without a handler has nothing to do");
    const release = onSignals(() => this.stop());
    try {
      await this.#connections();
    } finally {
      release();
      this.#desk.stopAll("lost");
    }
  }

  async #connections(): Promise<void> {
    const backoff = new Backoff();
    for (let met = false; !this.#done(); ) {
      let floor = 0;
      this.#expire();
      try {
        const [closed, registered] = await this.#connection();
        if (this.#done()) return;
        if (final(closed)) throw closedProblem(closed);
        if (!registered) await whyNot(this.#settings);
        if (!registered && !met) throw new Unreachable(`no worker's socket opens: ${closed.code} ${closed.reason}`);
        if (registered && (closed.code < 4200 || closed.code >= 4300)) backoff.reset();
        met ||= registered;
        [floor, this.#goodbye] = [this.#goodbye, 0];
      } catch (e) {
        const passing = e instanceof Problem ? e.passing || [429, 500].includes(e.status) : e instanceof Unreachable && met;
        if (!passing) throw e;
        if (e instanceof Problem) floor = e.retryAfter ?? 0;
      }
      const end = performance.now() + backoff.next(floor);
      while (!this.#done() && performance.now() < end) await this.#turn(Math.min(1000, end - performance.now()));
    }
  }

  /** Gives up what nobody spoke for so long that the server has given it to others. */
  #expire(): void {
    if (this.#session === undefined || performance.now() - this.#lost <= this.#lease) return;
    this.#session = undefined;
    this.#desk.stopAll("lost");
  }

  /** Takes what comes over one connection, until it ends or there is no more to do. */
  async #connection(): Promise<[Closed, boolean]> {
    this.#drained = undefined;
    let refusal: unknown;
    let registered = false;
    const connection = await connect(this.#settings, this.#make, "/v1/worker", subprotocol, {
      message: (message, on) => {
        if (message.method === "hello") this.#register(on, message);
        else if (message.id !== 0) this.#take(message);
        else if (message.error) {
          refusal = Problem.of(500, message.error.data ?? { title: message.error.message, code: "refused", status: 400 });
          on.close();
        } else {
          registered = true;
          this.#registered(on, message.result ?? {});
        }
      },
    });
    let closed: Closed | undefined;
    void connection.closed.then((how) => ((closed = how), this.#wake()));
    while (!closed && !this.#done()) {
      this.#beat(connection, registered);
      await this.#turn(Math.min(1000, this.#lease / 3));
    }
    if (this.#desk.connected) this.#lost = performance.now();
    this.#desk.disconnect();
    if (!closed) {
      connection.close();
      // Whether the other side agrees or not.
      await Promise.race([connection.closed, this.#turn(2000)]);
      this.#wake();
      connection.abandon("done");
    }
    if (refusal) throw refusal;
    return [closed ?? { code: 1000, reason: "" }, registered];
  }

  /** Sees to it that each side knows that the other is there. */
  #beat(connection: Connection, registered: boolean): void {
    const now = performance.now();
    if (now - connection.heard > this.#lease) connection.abandon("the server is silent");
    else if (registered && now - this.#desk.said > this.#lease / 3) this.#desk.note("heartbeat");
  }

  #register(connection: Connection, hello: Message): void {
    const limits = hello.params?.["limits"] as { message?: number } | undefined;
    this.#desk.mostMessage = limits?.message ?? this.#desk.mostMessage;
    const resume = this.#session === undefined ? {} : { resume: this.#session, running: this.#desk.tokens };
    const params = { ...this.#registration, kinds: [...this.#handlers.keys()].sort(), ...resume };
    connection.send({ jsonrpc: "2.0", id: 0, method: "register", params });
  }

  #registered(connection: Connection, result: Record<string, unknown>): void {
    this.#session = String(result["session"]);
    this.#lease = milliseconds(String(result["lease"]));
    const attempts = (result["attempts"] ?? []) as { token: string }[];
    this.#desk.connect(connection, new Set(attempts.map((a) => a.token)));
    if (this.#stopping !== undefined) this.#desk.note("drain");
  }

  #take(message: Message): void {
    const params = message.params ?? {};
    switch (message.method) {
      case undefined:
        return this.#desk.answered(message);
      case "run":
        return this.#begin(params as unknown as Run);
      case "cancel":
        return this.#desk.stop(String(params["token"]), params["reason"] as StopReason);
      case "drain":
        this.#drained = performance.now();
        return;
      case "goodbye":
        this.#goodbye = milliseconds(String(params["delay"]));
    }
  }

  #begin(run: Run): void {
    const attempt = new Attempt(this.#desk, run);
    if (this.#desk.begin(attempt)) void this.#attempt(attempt);
  }

  /** Runs a handler, and says how it ended. */
  async #attempt(attempt: Attempt): Promise<void> {
    try {
      const [method, params] = await this.#outcome(attempt);
      if (attempt.suspended) return;
      await this.#desk.end(attempt, method, params);
    } catch (e) {
      // The result is none, or none that the server takes.
      const code = e instanceof Problem ? e.code : "invalid_result";
      const error = { code, message: e instanceof Error ? e.message : String(e), retryable: false };
      await this.#desk.end(attempt, "fail", { error }).catch(() => {});
    } finally {
      this.#desk.ended(attempt);
      this.#wake();
    }
  }

  async #outcome(attempt: Attempt): Promise<[string, Record<string, unknown>]> {
    try {
      const result = await this.#handlers.get(attempt.kind)?.(attempt as Attempt<never>);
      return ["succeed", { result: result ?? null }];
    } catch (e) {
      return ["fail", { error: failureOf(e) }];
    }
  }

  /** Whether the worker may go. */
  #done(): boolean {
    const now = performance.now();
    if (this.#stopping !== undefined) {
      const late = now - this.#stopping - this.#drainTimeout;
      if (late > 0 || this.#hurry) this.#desk.stopAll("drained");
      return this.#desk.idle || late > grace;
    }
    if (this.#drained === undefined) return false;
    if (!this.#desk.idle) this.#drained = now;
    return now - this.#drained > afterDrain;
  }

  /** Resolves when something happens, or the time is over. */
  async #turn(most: number): Promise<void> {
    const stop = new AbortController();
    this.#wake = () => stop.abort();
    await sleep(most, stop.signal).catch(() => {});
  }
}

function failureOf(e: unknown): Record<string, unknown> {
  if (e instanceof Failure) return { code: e.code, message: e.message, retryable: e.retryable, details: e.details };
  if (e instanceof Cancelled) return { code: e.reason, message: e.message, retryable: true };
  return { code: "error", message: e instanceof Error ? `${e.name}: ${e.message}` : String(e), retryable: true };
}

/** Calls back on SIGTERM and SIGINT, where there are signals. */
function onSignals(call: () => void): () => void {
  const { process } = globalThis as { process?: { on?(name: string, call: () => void): void; off?(name: string, call: () => void): void } };
  const names = ["SIGTERM", "SIGINT"];
  for (const name of names) process?.on?.(name, call);
  return () => names.forEach((name) => process?.off?.(name, call));
}
