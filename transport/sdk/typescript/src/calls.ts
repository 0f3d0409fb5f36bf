import createClient, { type Client as Api } from "openapi-fetch";

import type { paths } from "./openapi.js";
import { Problem, Unreachable } from "./problem.js";
import { Backoff, sleep } from "./time.js";

export interface Settings {
  server: string;
  key: string;
  fetch: typeof globalThis.fetch;
}

/** What openapi-fetch gives for a call. */
export interface Outcome<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** How long a call is made again whose answer was lost, in milliseconds. */
export const patience = 10_000;

/** How long the network may be silent within a call, in milliseconds. */
const silence = 30_000;

/** Lets so many in at once; the others wait for their turn. */
export class Turnstile {
  #room: number;
  #waiting: (() => void)[] = [];

  constructor(room: number) {
    this.#room = room;
  }

  async through<T>(act: () => Promise<T>): Promise<T> {
    if (this.#room > 0) this.#room--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await act();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#room++;
    }
  }
}

export function makeApi(settings: Settings): Api<paths> {
  return createClient<paths>({
    baseUrl: settings.server,
    headers: credential(settings),
    fetch: (request) => settings.fetch(request),
  });
}

export function credential({ key }: Settings): Record<string, string> {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Makes one call, whose answer may take `takes` beside the usual, and throws a Problem where the server refuses. */
export async function once<T>(
  call: (signal: AbortSignal) => Promise<Outcome<T>>, signal?: AbortSignal, takes = 0,
): Promise<Outcome<T> & { data: T }> {
  signal?.throwIfAborted();
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(new Unreachable("the server is silent")), silence + takes);
  const abort = () => limit.abort(signal?.reason);
  signal?.addEventListener("abort", abort);
  try {
    const outcome = await call(limit.signal);
    if (!outcome.response.ok) {
      throw Problem.of(outcome.response.status, outcome.error, retryAfter(outcome.response));
    }
    return outcome as Outcome<T> & { data: T };
  } catch (e) {
    signal?.throwIfAborted();
    if (e instanceof Problem || e instanceof Unreachable) throw e;
    throw new Unreachable(`no server answers: ${e instanceof Error ? e.message : String(e)}`, { cause: e });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

/** Asks over HTTP why no WebSocket opens, as that does not tell, and throws what it hears. */
export async function whyNot(settings: Settings): Promise<void> {
  await once((signal) => makeApi(settings).GET("/v1/me", { signal }));
}

/**
 * Makes a call again until it is answered or the time is over. It must be one that may be made more than once. A server
 * that was never reached is told at once.
 */
export async function persist<T>(call: () => Promise<T>, time = patience, signal?: AbortSignal): Promise<T> {
  const end = performance.now() + time;
  const backoff = new Backoff();
  for (let first = true; ; first = false) {
    try {
      return await call();
    } catch (e) {
      const wait = backoff.next(e instanceof Problem ? e.retryAfter : 0);
      const again = e instanceof Unreachable ? !(first && refused(e)) : e instanceof Problem && e.passing;
      if (!again || performance.now() + wait > end) throw e;
      await sleep(wait, signal);
    }
  }
}

/** Whether nobody listens there. A browser does not tell. */
function refused(e: Unreachable): boolean {
  for (let cause: unknown = e.cause; cause instanceof Error; cause = cause.cause) {
    if ("code" in cause && cause.code === "ECONNREFUSED") return true;
  }
  return false;
}

function retryAfter(response: Response): number | undefined {
  const text = response.headers.get("Retry-After");
  if (text === null) return undefined;
  const delay = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(delay) ? undefined : Math.max(0, delay);
}
