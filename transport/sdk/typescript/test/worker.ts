import { Cancelled, Client, Failure, Problem, Unreachable, Worker, type Attempt } from "@troupe/client";

import { stage, type Play, type Scripted } from "./scripted.js";
import { all, equal, rejects, type Cases } from "./world.js";

type Said = { id: number; method: string; params: { token: string; [more: string]: unknown } };

/** Takes the worker, whose attempts with these tokens are kept. */
async function registers(s: Scripted, tokens: string[] = [], lease = "15s"): Promise<Record<string, unknown>> {
  s.hello();
  const { id, params } = await s.heard(1);
  const attempts = tokens.map((token) => ({ task: "t", attempt: 1, token }));
  s.say({ jsonrpc: "2.0", id, result: { worker: "w", session: "s", lease, attempts } });
  return params as Record<string, unknown>;
}

const run = (s: Scripted, token: string) =>
  s.say({ jsonrpc: "2.0", method: "run", params: { task: { id: "t", kind: "k", payload: token }, attempt: 1, token } });
const heard = async (s: Scripted, n: number) => (await s.heard(n)) as unknown as Said;
const ok = (s: Scripted, { id }: Said) => s.say({ jsonrpc: "2.0", id, result: {} });
const no = (s: Scripted, { id }: Said, code: string, status: number) =>
  s.say({ jsonrpc: "2.0", id, error: { code: -32000, message: code, data: { code, status } } });

/** Resolves when it is told to. */
function event(): { set(): void; done: Promise<void> } {
  let set = () => {};
  const done = new Promise<void>((resolve) => (set = resolve));
  return { set: () => set(), done };
}

/** Runs a worker of a script until the last play says that it is over, and gives what its plays gave. */
async function played(handler: (a: Attempt) => unknown, plays: ((s: Scripted) => Promise<unknown>)[], more: object = {}): Promise<unknown[]> {
  const results: Promise<unknown>[] = [];
  const over = event();
  const { options } = stage(
    plays.map((play, i): Play => (s) => {
      results[i] = play(s);
      void results[i]!.finally(() => i === plays.length - 1 && over.set());
    }),
  );
  const worker = new Worker({ ...options, ...more }).task("k", handler);
  const running = worker.run();
  await Promise.race([over.done, running]);
  worker.stop();
  await running;
  return Promise.all(results);
}

/** Against servers that play a script. */
export const scriptedWorker: Cases = {
  "a broken connection keeps what runs and says again what may be lost": async () => {
    const go = event();
    const [first, second] = await played(
      async (a) => {
        void a.output(1);
        await a.output(2);
        await go.done;
        await a.output(3);
        return "done";
      },
      [
        async (s) => {
          await registers(s);
          run(s, "T");
          ok(s, await heard(s, 2));
          const said = await heard(s, 3); // and gone without an answer
          s.close(1006);
          return said;
        },
        async (s) => {
          const asked = await registers(s, ["T"]);
          run(s, "T"); // sent twice, it is the same attempt
          go.set();
          const said: Said[] = [];
          for (let n = 2; n < 5; n++) ok(s, (said[n - 2] = await heard(s, n)));
          return [asked["resume"], asked["running"], ...said];
        },
      ],
    );
    const [resume, tokens, ...said] = second as [string, string[], ...Said[]];
    equal([resume, tokens], ["s", ["T"]]);
    equal((first as Said).id, said[0]!.id);
    equal(said.map((m) => [m.method, m.params["chunk"] ?? m.params["result"]]), [["output", 2], ["output", 3], ["succeed", "done"]]);
  },

  "what the server has not kept stops": async () => {
    const reasons: string[] = [];
    const ended = event();
    await played(
      async (a) => {
        await new Promise((resolve) => a.signal.addEventListener("abort", resolve));
        reasons.push((a.signal.reason as Cancelled).reason);
        if (a.payload === "T") ended.set();
        await a.progress(1);
      },
      [
        async (s) => {
          await registers(s);
          run(s, "T");
          run(s, "U");
          s.say({ jsonrpc: "2.0", method: "cancel", params: { token: "U", reason: "timeout" } });
          const failed = await heard(s, 2);
          equal([failed.method, failed.params.token, (failed.params["error"] as { code: string }).code], ["fail", "U", "timeout"]);
          no(s, failed, "stale_attempt", 409);
          s.close(1006);
        },
        async (s) => {
          await registers(s);
          await ended.done;
        },
      ],
    );
    equal(reasons, ["timeout", "lost"]);
  },

  "after a lease it begins anew": async () => {
    const lost = event();
    const { options, sockets } = stage([
      async (s) => {
        await registers(s, [], "1ms");
        run(s, "T");
        s.close(1006);
      },
      (s) => s.close(1006),
      (s) => s.close(1006),
      async (s) => {
        await registers(s);
        await lost.done;
        worker.stop();
      },
    ]);
    const worker = new Worker(options).task("k", async (a) => {
      await new Promise((resolve) => a.signal.addEventListener("abort", resolve));
      lost.set();
    });
    await worker.run();
    equal((sockets[3]!.asked[0]!["params"] as { resume?: string }).resume ?? null, null);
  },

  "codes of 44xx, faults of ours and refusals end a worker": async () => {
    for (const [code, name] of [[4401, "unauthorized"], [4403, "forbidden"], [1009, "socket_closed"]] as const) {
      const { options } = stage([async (s) => (await registers(s), s.close(code))]);
      equal((await rejects(new Worker(options).task("k", () => 1).run(), Problem)).code, name);
    }
    const { options } = stage([
      async (s) => {
        s.hello();
        no(s, await heard(s, 1), "invalid_params", 422);
      },
    ]);
    equal((await rejects(new Worker(options).task("k", () => 1).run(), Problem)).code, "invalid_params");
    await rejects(new Worker(stage([(s) => s.close(1006)]).options).task("k", () => 1).run(), Unreachable);
    await rejects(new Worker().run(), TypeError);
  },

  "a worker comes back to a server that goes": async () => {
    await played(
      () => 1,
      [
        async (s) => {
          await registers(s);
          s.say({ jsonrpc: "2.0", method: "drain", params: {} }, { jsonrpc: "2.0", method: "goodbye", params: { delay: "1ms" } });
          s.close(4101);
        },
        async (s) => registers(s),
      ],
    );
  },

  "stopping waits for what runs and then stops it": async () => {
    const { options, sockets } = stage([
      async (s) => {
        await registers(s);
        run(s, "T");
        worker.stop();
        ok(s, await heard(s, 3));
      },
    ]);
    const worker = new Worker({ ...options, drainTimeout: 10 }).task("k", async (a) => {
      await new Promise((resolve) => a.signal.addEventListener("abort", resolve));
      throw a.signal.reason;
    });
    await worker.run();
    equal(sockets[0]!.asked.map((m) => m["method"]), ["register", "drain", "fail"]);
    equal(((sockets[0]!.asked[2]!["params"] as { error: { code: string } }).error).code, "drained");
  },

  "what is too large or no JSON is refused before it is sent": async () => {
    for (const [result, code] of [["é".repeat(60_000), "payload_too_large"], [1n, "invalid_result"]] as const) {
      const [error] = await played(() => result, [
        async (s) => {
          await registers(s);
          run(s, "T");
          const failed = await heard(s, 2);
          ok(s, failed);
          return failed.params["error"];
        },
      ]);
      equal([(error as { code: string }).code, (error as { retryable: boolean }).retryable], [code, false]);
    }
  },

  "a fault of what nobody waited for is thrown by the next": async () => {
    const [message] = await played(
      async (a) => {
        await a.output(1);
        await a.output(2);
        await a.checkpoint(3); // answered behind both
        await a.progress(1);
      },
      [
        async (s) => {
          await registers(s);
          run(s, "T");
          no(s, await heard(s, 2), "log_full", 429); // which ends no work
          no(s, await heard(s, 3), "invalid_params", 422);
          ok(s, await heard(s, 4));
          const failed = await heard(s, 5);
          ok(s, failed);
          return (failed.params["error"] as { message: string }).message;
        },
      ],
    );
    equal(String(message).includes("invalid_params"), true, String(message));
  },

  "so much is on its way and no more, in order": async () => {
    const [seen] = await played(
      async (a) => {
        for (let i = 0; i < 200; i++) void a.output(i);
      },
      [
        async (s) => {
          await registers(s);
          run(s, "T");
          await s.heard(65);
          const held = s.asked.length; // it has had every chance to say more
          const said: Said[] = [];
          for (let n = 2; n < 203; n++) ok(s, (said[n - 2] = await heard(s, n)));
          return [held, said.map((m) => m.params["chunk"] ?? m.method)];
        },
      ],
    );
    equal(seen, [65, [...Array(200).keys(), "succeed"]]);
  },
};

/** Against the real server. */
export const realWorker: Cases = {
  "all that a handler may say": async ({ server, key }) => {
    const client = new Client({ server, key });
    const worker = new Worker({ server, key, slots: 2 }).task<{ p: number }>("js.all", async (a) => {
      if (a.number > 1) return [a.restored, await a.step("s", () => "twice"), a.payload];
      await a.progress(0.5, "half");
      await a.log("hello", "warn", { x: 1 });
      await a.output({ n: 1 });
      await a.text("t");
      await a.binary(new Uint8Array([255]));
      await a.checkpoint({ was: await a.step("s", () => "once") });
      throw new Failure("not yet", { code: "early", details: { d: 1 } });
    });
    const running = worker.run();
    const { id } = await client.submit("js.all", { p: 1 }, { retry: { initial: "1ms" } });
    equal(await client.result(id), [{ was: "once" }, "once", { p: 1 }]);
    const events = await all(client.follow(id));
    equal(events.filter((e) => e.type === "progress" || e.type === "output").map((e) => e.data),
      [{ fraction: 0.5, message: "half" }, { chunk: { n: 1 } }, { text: "t" }, { base64: "/w==" }]);
    const error = (await client.get(id)).errors?.[0];
    equal([error?.code, error?.message], ["early", "not yet"]);
    worker.stop();
    await running;
  },

  "a task sleeps and waits without a slot": async ({ server, key }) => {
    const client = new Client({ server, key });
    const worker = new Worker({ server, key })
      .task("js.wait", async (a) => {
        await a.sleep("1200ms");
        await rejects(a.wait("never", { timeout: "0s" }), DOMException);
        return a.wait("go");
      })
      .task("js.quick", (a) => a.number);
    const running = worker.run();
    const { id } = await client.submit("js.wait");
    for await (const e of client.follow(id)) {
      if (e.type !== "state" || e.data.state !== "blocked" || e.data["signal"] !== "go") continue;
      equal(await client.result((await client.submit("js.quick")).id), 1);
      await client.signal(id, "go", { by: "ada" });
    }
    equal(await client.result(id), { by: "ada" });
    worker.stop();
    await running;
  },

  "cancel and errors reach both sides": async ({ server, key }) => {
    const client = new Client({ server, key });
    const reasons: string[] = [];
    const worker = new Worker({ server, key, slots: 2 }).task<string | null>("js.long", async (a) => {
      if (a.payload === "throw") throw new RangeError("r");
      await a.text("begun");
      await new Promise((resolve) => a.signal.addEventListener("abort", resolve));
      reasons.push((a.signal.reason as Cancelled).reason);
      throw a.signal.reason;
    });
    const running = worker.run();
    const { id } = await client.submit("js.long");
    let last;
    for await (const e of client.follow(id)) {
      if (e.type === "state") ({ state: last } = e.data);
      if (e.type === "output") await client.cancel(id);
    }
    equal([last, reasons], ["cancelled", ["cancelled"]]);
    const failed = await client.submit("js.long", "throw", { max_attempts: 1 });
    equal((await rejects(client.result(failed.id), Problem)).failure?.message, "RangeError: r");
    worker.stop();
    await running;
  },

  "over a kill of the server a worker goes on": async ({ server, key, control }) => {
    const client = new Client({ server, key });
    const worker = new Worker({ server, key, slots: 4 }).task("js.through", async (a) => {
      for (let i = 0; i < 20; i++) await a.output(i);
      return a.payload;
    });
    const running = worker.run();
    const tasks = Array.from({ length: 200 }, (_, i) => ({ kind: "js.through", payload: i, max_attempts: 100 }));
    const { ids } = await client.submitBatch(tasks);
    await client.result(ids![20]!);
    await control("kill");
    await control("start");
    equal(await Promise.all(ids!.map((id) => client.result(id))), tasks.map((t) => t.payload));
    worker.stop();
    await running;
  },
};
