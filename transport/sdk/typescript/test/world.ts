import { Client, type GapEvent, type TaskEvent } from "@troupe/client";

/** Where tests run: in Node or in a page. */
export interface World {
  server: string;
  /** Of an administrator. */
  key: string;
  /** Kills the server, or starts it. */
  control(verb: "kill" | "start"): Promise<void>;
}

/** Tests, each under the name of the rule it checks. */
export type Cases = Record<string, (world: World) => Promise<void>>;

export function equal(got: unknown, want: unknown, about = ""): void {
  const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
  if (a !== b) throw new Error(`${about} got ${a}, want ${b}`);
}

export async function rejects<T extends Error>(promise: Promise<unknown>, type: abstract new (...args: never[]) => T): Promise<T> {
  try {
    await promise;
  } catch (e) {
    if (e instanceof type) return e;
    throw e;
  }
  throw new Error(`it did not reject with a ${type.name}`);
}

export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** Checks that what was seen is what is stored, but for the last words of attempts that died with the server. */
export async function checkAgainstLog(client: Client, task: string, seen: (TaskEvent | GapEvent)[]): Promise<void> {
  let last: [number, number] = [0, 0];
  for (const { cursor } of seen) {
    const [attempt = NaN, number = NaN] = cursor.split(".").map(Number);
    const follows = attempt === last[0] ? number === last[1] + 1 : attempt > last[0] && number === 1;
    if (!follows) throw new Error(`${cursor} came behind ${last}`);
    last = [attempt, number];
  }
  const stored = new Map((await all(client.events(task))).map((e) => [e.cursor, e]));
  for (const e of seen) {
    const same = stored.get(e.cursor);
    if (same) {
      equal(e, same);
      stored.delete(e.cursor);
    } else if (Number(e.cursor.split(".")[0]) >= last[0] || e.type !== "output") {
      throw new Error(`${e.cursor} is not in the log`);
    }
  }
  equal([...stored.keys()], [], "not seen:");
}
