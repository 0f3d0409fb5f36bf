import type { Task } from "./openapi.js";
import { Problem } from "./problem.js";

/** Thrown by a handler: the attempt has failed, and this is why. */
export class Failure extends Error {
  override readonly name = "Failure";
  readonly code: string;
  /** Whether another attempt may do better. */
  readonly retryable: boolean;
  readonly details: unknown;

  constructor(message: string, { code = "error", retryable = true, details }: { code?: string; retryable?: boolean; details?: unknown } = {}) {
    super(message);
    [this.code, this.retryable, this.details] = [code, retryable, details];
  }
}

/** Why an attempt is to stop. */
export type StopReason = "cancelled" | "timeout" | "deadline" | "drained" | "lost";

/** The attempt is to stop: let it pass. */
export class Cancelled extends Error {
  override readonly name = "Cancelled";
  constructor(readonly reason: StopReason) {
    super(`the attempt is to stop: ${reason}`);
  }
}

/** The attempt is over, as the task sleeps or waits; it runs again when it is time. Let it pass. */
export class Suspended extends Error {
  override readonly name = "Suspended";
  constructor() {
    super("the attempt is over until it is time");
  }
}

/** The way to the server. */
export interface Line {
  /** Says something, in order; it waits only while too much is on its way. */
  tell(attempt: Attempt, method: string, params: Record<string, unknown>): Promise<void>;
  /** Says something and waits for the answer. */
  ask(attempt: Attempt, method: string, params: Record<string, unknown>): Promise<Record<string, unknown>>;
}

/** What the server sends to have an attempt run. */
export interface Run {
  task: Task;
  attempt: number;
  token: string;
  checkpoint?: unknown;
  steps?: { name: string; result: unknown }[];
}

/**
 * One run of a task. Its methods reject with Cancelled once the attempt is to stop, and with a Problem where the server
 * refuses what is said.
 */
export class Attempt<Payload = unknown> {
  readonly task: Task;
  readonly id: string;
  readonly kind: string;
  readonly payload: Payload;
  readonly number: number;
  /** What an earlier attempt kept by `checkpoint`; undefined if none did. */
  readonly restored: unknown;
  readonly token: string;
  /** Whether it is over by its own will, until it is time. */
  suspended = false;
  #line: Line;
  #steps: Map<string, unknown>;
  #names = new Map<string, number>();
  #stop = new AbortController();
  #fault: Problem | undefined; // of something said that nobody waited for

  constructor(line: Line, run: Run) {
    this.#line = line;
    this.task = run.task;
    this.id = run.task.id;
    this.kind = run.task.kind;
    this.payload = run.task.payload as Payload;
    this.number = run.attempt;
    this.restored = run.checkpoint;
    this.token = run.token;
    this.#steps = new Map(run.steps?.map(({ name, result }) => [name, result]));
  }

  /** Aborted when the attempt is to stop; its reason is a Cancelled. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Says how far it is, from 0 to 1, or null if that cannot be told. */
  progress(fraction: number | null, message = ""): Promise<void> {
    return this.#tell("progress", { fraction, message });
  }

  /** Writes into the task's log. */
  log(message: string, level: "debug" | "info" | "warn" | "error" = "info", fields?: Record<string, unknown>): Promise<void> {
    return this.#tell("log", { level, message, fields });
  }

  /** Streams a part of the result: any JSON. */
  output(chunk: unknown): Promise<void> {
    return this.#tell("output", { chunk });
  }

  /** Streams a part of the result: text. */
  text(text: string): Promise<void> {
    return this.#tell("output", { text });
  }

  /** Streams a part of the result: bytes. */
  binary(data: Uint8Array): Promise<void> {
    let text = "";
    for (const byte of data) text += String.fromCharCode(byte);
    return this.#tell("output", { base64: btoa(text) });
  }

  /** Keeps a value for the next attempt, should there be one. */
  async checkpoint(value: unknown): Promise<void> {
    await this.#ask("checkpoint", { checkpoint: value });
  }

  /**
   * Does something once in the life of the task: an attempt after it gets the result without doing it again. The result
   * is JSON. An error is not remembered. A name that is used again gets a number.
   */
  async step<T>(name: string, act: () => T | Promise<T>): Promise<T> {
    name = this.#numbered(name);
    if (this.#steps.has(name)) return this.#steps.get(name) as T;
    this.signal.throwIfAborted();
    const result = await act();
    await this.#ask("step", { name, result: result ?? null });
    return result;
  }

  /** Has the task sleep, as `"1h30m"`. It holds no slot meanwhile, so the handler begins anew, unless it is short. */
  async sleep(duration: string, name = "sleep"): Promise<void> {
    const { woken } = await this.#ask("sleep", { name: this.#numbered(name), for: duration });
    if (!woken) this.#suspend();
  }

  /** Waits for a signal, as `sleep` does, and gives its payload. Rejects with a TimeoutError (a DOMException) if none came. */
  async wait<T = unknown>(signal: string, { timeout, name = `wait ${signal}` }: { timeout?: string; name?: string } = {}): Promise<T> {
    const answer = await this.#ask("wait", { signal, name: this.#numbered(name), timeout });
    if (answer["got"]) return answer["signal"] as T;
    if (answer["timeout"]) throw new DOMException(`no signal ${signal}`, "TimeoutError");
    return this.#suspend();
  }

  /** Has the attempt stop. For the worker; a second reason is not noted. */
  stop(reason: StopReason): void {
    this.#stop.abort(new Cancelled(reason));
  }

  /** Notes that the server refused something that nobody waited for. The next call rejects with it. */
  refused(problem: Problem): void {
    // That the log is full is said by its last entry, and the work goes on.
    if (problem.code !== "log_full") this.#fault ??= problem;
  }

  #suspend(): never {
    this.suspended = true;
    throw new Suspended();
  }

  #tell(method: string, params: Record<string, unknown>): Promise<void> {
    return heard(async () => {
      this.#ready();
      await this.#line.tell(this as Attempt, method, { token: this.token, ...params });
    });
  }

  #ask(method: string, params: Record<string, unknown>): Promise<Record<string, unknown>> {
    return heard(async () => {
      this.#ready();
      return this.#line.ask(this as Attempt, method, { token: this.token, ...params });
    });
  }

  #ready(): void {
    this.signal.throwIfAborted();
    const fault = this.#fault;
    this.#fault = undefined;
    if (fault) throw fault;
  }

  #numbered(name: string): string {
    const n = (this.#names.get(name) ?? 0) + 1;
    this.#names.set(name, n);
    return n === 1 ? name : `${name}#${n}`;
  }
}

/** Has a promise that nobody waits for do no harm when it rejects: the next one does, too. */
function heard<T>(act: () => Promise<T>): Promise<T> {
  const promise = act();
  promise.catch(() => {});
  return promise;
}
