import type { Client as Api } from "openapi-fetch";

import { makeApi, once, patience, persist, Turnstile, type Outcome, type Settings } from "./calls.js";
import type { GapEvent, TaskEvent } from "./events.js";
import { newId } from "./id.js";
import type { BatchAccepted, BatchStatus, EventPage, Explanation, Submission, Task, paths } from "./openapi.js";
import type { WebSocketMaker } from "./socket.js";
import { milliseconds } from "./time.js";
import { Socket, Subscription, type Topic, type Watched } from "./watch.js";

export interface ClientOptions {
  /** Address of the server: in a page its own origin, else `TROUPE_SERVER` or `http://127.0.0.1:8080`. */
  server?: string;
  /** API key: `TROUPE_KEY` unless given. */
  key?: string;
  /** Instead of the global one. */
  fetch?: typeof globalThis.fetch;
  /** Instead of the global one, or that of the package `ws` where there is none. */
  WebSocket?: WebSocketMaker;
}

/** What may be said of a task beside its kind and payload. */
export type SubmitOptions = Omit<Submission, "kind" | "payload">;

type ListQuery = NonNullable<paths["/v1/tasks"]["get"]["parameters"]["query"]>;

/** How long one request waits for a result, in milliseconds; the server has its own bound. */
const resultWait = 30_000;

// A browser has six connections to a server, and others want one, too. Elsewhere it is the server that has a bound.
const mostWaits = "document" in globalThis ? 4 : 256;

/** Talks to one server: every call of its API, typed, and following tasks live. */
export class Client {
  readonly server: string;
  /** Every call of the API, as the OpenAPI document has it. */
  readonly api: Api<paths>;
  readonly #settings: Settings;
  readonly #webSocket: WebSocketMaker | undefined;
  readonly #waits = new Turnstile(mostWaits);
  #sockets: Socket[] = [];

  constructor(options: ClientOptions = {}) {
    this.#settings = settingsOf(options);
    this.server = this.#settings.server;
    this.#webSocket = options.WebSocket;
    this.api = makeApi(this.#settings);
  }

  /**
   * Stores a task; when the promise resolves it is on disk. The task gets its id here, so trying again after a lost
   * answer never makes a second one. With a `unique_key` the task may be one that was there before.
   */
  async submit(kind: string, payload: unknown = null, options: SubmitOptions = {}): Promise<Task> {
    const body = await withId({ kind, payload, ...options });
    return this.#persist((signal) => this.api.POST("/v1/tasks", { body, signal }));
  }

  /** Stores up to 10,000 tasks as one batch: all of them, or none. The callback runs when all have ended. */
  async submitBatch(tasks: readonly Submission[], callback?: Submission): Promise<BatchAccepted> {
    const body = { tasks: await Promise.all(tasks.map(withId)), ...(callback && { callback: await withId(callback) }) };
    const params = { query: { batch_id: await newId() } };
    const accepted = await this.#persist((signal) => this.api.POST("/v1/batches", { body, params, signal }));
    return accepted as BatchAccepted;
  }

  /** How far a batch has come. */
  batch(id: string): Promise<BatchStatus> {
    return this.#persist((signal) => this.api.GET("/v1/batches/{id}", { params: { path: { id } }, signal }));
  }

  /** Reads one task. */
  get(id: string): Promise<Task> {
    return this.#persist((signal) => this.api.GET("/v1/tasks/{id}", { params: { path: { id } }, signal }));
  }

  /** Yields tasks, newest first, page by page; `limit` is the size of a page. */
  async *list(query: Omit<ListQuery, "cursor"> = {}): AsyncGenerator<Task, void, undefined> {
    for (let cursor: string | undefined; ; ) {
      const params = { query: { ...query, ...(cursor && { cursor }) } };
      const page = await this.#persist((signal) => this.api.GET("/v1/tasks", { params, signal }));
      yield* page.tasks ?? [];
      if (!page.next_cursor) return;
      cursor = page.next_cursor;
    }
  }

  /** Ends a task. */
  cancel(id: string, reason?: string): Promise<Task> {
    const body = reason === undefined ? {} : { reason };
    return this.#once((signal) => this.api.POST("/v1/tasks/{id}/cancel", { params: { path: { id } }, body, signal }));
  }

  /** Starts a failed or cancelled task anew. */
  retry(id: string): Promise<Task> {
    return this.#once((signal) => this.api.POST("/v1/tasks/{id}/retry", { params: { path: { id } }, signal }));
  }

  /** Forgets a task that has ended. */
  async delete(id: string): Promise<void> {
    await once((signal) => this.api.DELETE("/v1/tasks/{id}", { params: { path: { id } }, signal }));
  }

  /** Why a task is not running. */
  explain(id: string): Promise<Explanation> {
    return this.#persist((signal) => this.api.GET("/v1/tasks/{id}/explain", { params: { path: { id } }, signal }));
  }

  /** Sends a task a signal. It is kept when the promise resolves, and kept once: `key` tells two of them apart. */
  async signal(id: string, name: string, payload: unknown = null, key?: string): Promise<void> {
    const params = { path: { id, name }, header: { "Idempotency-Key": key ?? (await newId()) } };
    await this.#persist((signal) => this.api.POST("/v1/tasks/{id}/signals/{name}", { params, body: payload, signal }));
  }

  /**
   * Waits for a task's result, over restarts of the server. It rejects with a Problem whose `failure` says why if the
   * task failed, and with a TimeoutError (a DOMException) when `wait`, in milliseconds, is over.
   */
  async result<T = unknown>(id: string, { wait = Infinity, signal }: { wait?: number; signal?: AbortSignal } = {}): Promise<T> {
    for (const end = performance.now() + wait; ; ) {
      const { data, response } = await this.#waits.through(() => {
        const left = Math.max(0, Math.min(resultWait, end - performance.now()));
        const params = { path: { id }, query: { wait: `${Math.round(left)}ms` } };
        const call = () => once((limit) => this.api.GET("/v1/tasks/{id}/result", { params, signal: limit }), signal, left);
        return persist(call, Math.max(patience, end - performance.now()), signal);
      });
      if (response.status !== 202) return data as T;
      if (performance.now() >= end) throw new DOMException(`task ${id} has not ended after ${wait} ms`, "TimeoutError");
    }
  }

  /** Yields the events that are stored now, page by page; a gap where some are gone. */
  async *events(id: string, after?: string): AsyncGenerator<TaskEvent | GapEvent, void, undefined> {
    for (;;) {
      const params = { path: { id }, query: { limit: 1000, ...(after !== undefined && { after }) } };
      const page = await this.#persist<EventPage>((signal) =>
        // Asked for as JSON, it is a page and no stream.
        this.api.GET("/v1/tasks/{id}/events", { params, signal }) as Promise<Outcome<EventPage>>,
      );
      if (page.gap) yield gap(id, after, page.gap.first);
      const events = (page.events ?? []) as TaskEvent[];
      yield* events;
      if (events.length === 0) return;
      after = page.next;
    }
  }

  /**
   * Yields the task's events behind `after` (from its first unless given) as they happen, until it has ended.
   *
   * A connection that is lost is opened again, also while the server is away, and goes on behind the last event: each
   * comes once, in order, and none is left out. Where retention has removed some, an event of type `gap` says so. Only if
   * the first connection finds no server it throws Unreachable; a Problem (no such task, no right to it) at any time.
   */
  async *follow(
    task: string, { after, signal }: { after?: string; signal?: AbortSignal } = {},
  ): AsyncGenerator<TaskEvent | GapEvent, void, undefined> {
    const topic = { task, ...(after !== undefined && { after }) };
    for await (const item of this.watch(topic, signal ? { signal } : {})) {
      if (item.kind === "event") yield (({ cursor: after } = item.event), item.event);
      else if (item.kind === "gap") yield gap(task, after, item.first);
    }
  }

  /** Watches a task, a batch, a queue or all tasks that match, over one connection for all that is watched. */
  watch(topic: Topic, { signal }: { signal?: AbortSignal } = {}): AsyncGenerator<Watched, void, undefined> {
    const subscription = new Subscription(topic);
    return subscription.items(() => this.#socketFor(subscription), signal);
  }

  #socketFor(s: Subscription): Socket {
    this.#sockets = this.#sockets.filter((socket) => !socket.idle);
    let socket = this.#sockets.find((socket) => socket.fits(s));
    if (socket === undefined) this.#sockets.push((socket = new Socket(this.#settings, this.#webSocket)));
    return socket;
  }

  async #once<T>(call: (signal: AbortSignal) => Promise<Outcome<T>>): Promise<T> {
    return (await once(call)).data;
  }

  async #persist<T>(call: (signal: AbortSignal) => Promise<Outcome<T>>): Promise<T> {
    return (await persist(() => once(call))).data;
  }
}

/** What to call, and how. */
export function settingsOf(options: ClientOptions): Settings {
  const server = new URL(options.server ?? environment("TROUPE_SERVER") ?? here() ?? "http://127.0.0.1:8080");
  if (!/^https?:$/.test(server.protocol) || server.username || server.search) {
    throw new TypeError(`${server.href} is no address of a server, such as http://127.0.0.1:8080`);
  }
  return {
    server: server.href.replace(/\/+$/, ""),
    key: options.key ?? environment("TROUPE_KEY") ?? "",
    fetch: options.fetch ?? ((...request) => globalThis.fetch(...request)),
  };
}

function gap(task: string, after: string | undefined, first: string): GapEvent {
  return { task, cursor: after ?? "", type: "gap", at: "", data: { first } };
}

async function withId(s: Submission): Promise<Submission> {
  const id = s.id ?? (await newId());
  if (s.delay === undefined || s.run_at !== undefined) return { ...s, id };
  // Trying again must say the same, and a delay would count from then.
  const { delay, ...rest } = s;
  return { ...rest, id, run_at: new Date(Date.now() + milliseconds(delay)).toISOString() };
}

/** A variable of the environment, where there is one. */
function environment(name: string): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.[name] || undefined;
}

/** A page's own origin. */
function here(): string | undefined {
  return globalThis.location?.origin;
}
