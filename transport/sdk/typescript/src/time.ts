const units: Record<string, number> = { ns: 1e-6, us: 1e-3, "µs": 1e-3, "μs": 1e-3, ms: 1, s: 1e3, m: 6e4, h: 3.6e6 };

/** Reads a duration as the server writes it, such as `"1m30s"`, in milliseconds. */
export function milliseconds(text: string): number {
  const parts = [...text.matchAll(/([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)/g)];
  const sign = text.startsWith("-") ? -1 : 1;
  if (text !== "0" && parts.map((p) => p[0]).join("") !== text.replace(/^[+-]/, "") || text === "") {
    throw new RangeError(`"${text}" is no duration such as "1.5s" or "30m"`);
  }
  return sign * parts.reduce((sum, [, n, unit]) => sum + Number(n) * (units[unit ?? ""] ?? NaN), 0);
}

/** Resolves after so many milliseconds, and rejects when the signal says so. */
export function sleep(delay: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, delay);
    signal?.addEventListener("abort", abort, { once: true });
  });
}

const firstDelay = 50;
const mostDelay = 5_000;

/** How long to wait before the next try: longer each time, and spread so that many do not come back at once. */
export class Backoff {
  #failures = 0;

  /** The last try was a good one. */
  reset(): void {
    this.#failures = 0;
  }

  /** Milliseconds to wait, and never less than the floor. */
  next(floor = 0): number {
    const most = Math.min(mostDelay, firstDelay * 2 ** this.#failures++);
    return floor + Math.random() * most;
  }
}
