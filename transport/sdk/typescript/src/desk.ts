import { Cancelled, type Attempt, type Line, type StopReason } from "./attempt.js";
import { Problem } from "./problem.js";
import type { Connection, Message } from "./socket.js";

// So much of one attempt may be on its way before it waits.
const mostCalls = 64;
const mostBytes = 1 << 20;

interface Call {
  attempt: Attempt;
  text: string;
  settle: (result: Record<string, unknown>, problem?: Problem) => void;
}

/**
 * What a worker has under way: its attempts, and what they have said that is not answered yet.
 *
 * Everything said is a request. What a broken connection may have swallowed is said again on the next one, so nothing is
 * lost; what had arrived all the same may then be there twice, which matters to `output` and `log` alone.
 */
export class Desk implements Line {
  /** So many bytes of one message the server takes. */
  mostMessage = 1 << 20;
  /** When something was last said. */
  said = 0;
  #connection: Connection | null = null;
  #attempts = new Map<string, Attempt>();
  #calls = new Map<number, Call>(); // not answered, in the order in which they were made
  #turns = new WeakMap<Attempt, Promise<void>>();
  #next = 1;
  #changed: (() => void)[] = [];

  async tell(attempt: Attempt, method: string, params: Record<string, unknown>): Promise<void> {
    await this.#room(attempt);
    this.#make(attempt, method, params, (_, problem) => problem && attempt.refused(problem));
  }

  async ask(attempt: Attempt, method: string, params: Record<string, unknown>): Promise<Record<string, unknown>> {
    await this.#room(attempt);
    return this.#answer(attempt, method, params);
  }

  /** Says how an attempt ended, and waits until the server knows or does not want to. Rejects with a Problem. */
  async end(attempt: Attempt, method: string, params: Record<string, unknown>): Promise<void> {
    if (!this.#attempts.has(attempt.token)) return; // lost: there is nobody to tell
    await this.#turns.get(attempt); // what the handler did not wait for
    try {
      await this.#answer(attempt, method, { token: attempt.token, ...params });
    } catch (e) {
      if (e instanceof Cancelled || e instanceof Problem && e.code === "stale_attempt") return;
      throw e;
    }
  }

  #answer(attempt: Attempt, method: string, params: Record<string, unknown>): Promise<Record<string, unknown>> {
    return new Promise((resolve, reject) => {
      this.#make(attempt, method, params, (result, problem) => {
        if (!problem) resolve(result);
        else reject(attempt.signal.aborted ? attempt.signal.reason : problem);
      });
    });
  }

  #make(attempt: Attempt, method: string, params: Record<string, unknown>, settle: Call["settle"]): void {
    const id = this.#next++;
    const text = JSON.stringify({ jsonrpc: "2.0", id, method, params });
    // Every character is at most three bytes, and most are one.
    if (text.length * 3 > this.mostMessage && new TextEncoder().encode(text).length > this.mostMessage) {
      // Sent, it would end the connection.
      const detail = `${method} has more than the ${this.mostMessage} bytes that the server takes.`;
      throw new Problem({ title: "Too Large", status: 413, code: "payload_too_large", detail });
    }
    this.#calls.set(id, { attempt, text, settle });
    this.#say(text);
  }

  #say(text: string): void {
    if (!this.#connection) return;
    this.said = performance.now();
    this.#connection.say(text);
  }

  /** Waits until an attempt has not too much on its way, and until all it said before is. */
  #room(attempt: Attempt): Promise<void> {
    const turn = (this.#turns.get(attempt) ?? Promise.resolve()).then(async () => {
      for (;;) {
        attempt.signal.throwIfAborted();
        const mine = [...this.#calls.values()].filter((c) => c.attempt === attempt);
        if (mine.length < mostCalls && mine.reduce((sum, c) => sum + c.text.length, 0) < mostBytes) return;
        await new Promise<void>((resolve) => this.#changed.push(resolve));
      }
    });
    this.#turns.set(attempt, turn.catch(() => {}));
    return turn;
  }

  /** Says something that nobody has to answer, if there is a connection. */
  note(method: string): void {
    this.#say(JSON.stringify({ jsonrpc: "2.0", method, params: {} }));
  }

  /** Takes an attempt, unless it is here already. */
  begin(attempt: Attempt): boolean {
    if (this.#attempts.has(attempt.token)) return false;
    this.#attempts.set(attempt.token, attempt);
    return true;
  }

  /** Forgets an attempt. */
  ended(attempt: Attempt): void {
    this.#attempts.delete(attempt.token);
    this.#wake();
  }

  stop(token: string, reason: StopReason): void {
    const attempt = this.#attempts.get(token);
    if (attempt) this.#stop(attempt, reason);
  }

  stopAll(reason: StopReason): void {
    for (const attempt of this.#attempts.values()) this.#stop(attempt, reason);
  }

  #stop(attempt: Attempt, reason: StopReason): void {
    attempt.stop(reason);
    if (reason === "lost") {
      this.#attempts.delete(attempt.token);
      for (const [id, call] of this.#calls) {
        if (call.attempt === attempt) this.#settle(id, {}, new Problem({ status: 409, code: "stale_attempt" }));
      }
    }
    this.#wake();
  }

  get tokens(): string[] {
    return [...this.#attempts.keys()];
  }

  get connected(): boolean {
    return this.#connection !== null;
  }

  get idle(): boolean {
    return this.#attempts.size === 0;
  }

  /** Speaks over a connection. The server has kept these attempts; the others are over. */
  connect(connection: Connection, kept: Set<string>): void {
    for (const [token, attempt] of this.#attempts) if (!kept.has(token)) this.#stop(attempt, "lost");
    this.#connection = connection;
    for (const { text } of this.#calls.values()) this.#say(text);
  }

  disconnect(): void {
    this.#connection = null;
  }

  /** Takes an answer. */
  answered({ id, result, error }: Message): void {
    this.#settle(id ?? 0, result ?? {}, error && Problem.of(500, error.data ?? { title: error.message, code: "refused", status: 400 }));
  }

  #settle(id: number, result: Record<string, unknown>, problem?: Problem): void {
    const call = this.#calls.get(id);
    if (!call) return;
    this.#calls.delete(id);
    if (problem?.code === "stale_attempt") call.attempt.stop("lost");
    call.settle(result, problem);
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#changed;
    this.#changed = [];
    for (const resolve of waiting) resolve();
  }
}
