import type { Failure } from "./openapi.js";

export type State = "scheduled" | "blocked" | "queued" | "running" | "succeeded" | "failed" | "cancelled";

interface Base<Type extends string, Data> {
  task: string;
  /** `"ATTEMPT.SEQ"`: give it as `after` to go on behind this event. */
  cursor: string;
  type: Type;
  at: string;
  data: Data;
}

export interface StateData {
  state: State;
  attempt: number;
  reason?: string;
  result?: unknown;
  error?: Failure;
  [more: string]: unknown;
}

/** One entry of a task's log. */
export type TaskEvent =
  | Base<"state", StateData>
  | Base<"progress", { fraction: number | null; message: string }>
  | Base<"log", { level: string; message: string; fields?: Record<string, unknown> }>
  | Base<"output", { chunk?: unknown; text?: string; base64?: string }>;

/** Stands in no log: retention has removed events, and `first` is the first still there. */
export type GapEvent = Base<"gap", { first: string }>;

/** Whether cursor a lies before b. Their text does not say. */
export function before(a: string, b: string): boolean {
  const [x, y] = [a, b].map((c) => c.split(".").map(Number));
  return (x?.[0] ?? 0) - (y?.[0] ?? 0) < 0 || x?.[0] === y?.[0] && (x?.[1] ?? 0) < (y?.[1] ?? 0);
}
