import { Client, Problem, Worker, type GapEvent, type TaskEvent, type Watched } from "@troupe/client";

import { all, checkAgainstLog, equal, rejects, type Cases } from "./world.js";

const terminal = (e: TaskEvent | GapEvent) => e.type === "state" && ["succeeded", "failed", "cancelled"].includes(e.data.state);

/** Against the real server. */
export const real: Cases = {
  "over kills nothing is missing and nothing comes twice": async ({ server, key, control }) => {
    const client = new Client({ server, key });
    let kills = 0;
    // One that ends before its server is killed is too short for this machine.
    for (let chunks = 400; kills < 3; chunks *= 2) {
      const { id } = await client.submit("demo.stream", { chunks, interval: "2ms" }, { max_attempts: 100 });
      const seen: (TaskEvent | GapEvent)[] = [];
      let killer = Promise.resolve();
      for await (const e of client.follow(id)) {
        seen.push(e);
        if (e.type === "output" && (e.data.chunk as { i: number }).i === 30 && kills < 3) {
          kills++;
          killer = killer.then(() => control("kill")).then(() => control("start"));
        }
      }
      await killer;
      equal(terminal(seen.at(-1)!), true);
      await checkAgainstLog(client, id, seen);
    }
  },

  "a slow reader misses nothing": async ({ server, key }) => {
    const client = new Client({ server, key });
    const { id } = await client.submit("demo.stream", { chunks: 5000, interval: "0s", size: 1024 });
    const events = client.follow(id);
    const first = await events.next();
    equal(await client.result(id), { chunks: 5000 }); // it has ended, and nothing more was read
    const seen = [first.value!, ...(await all(events))];
    await checkAgainstLog(client, id, seen);
    equal(seen.filter((e) => e.type === "output").length, 5000);
  },

  "from each cursor it is the rest": async ({ server, key }) => {
    const client = new Client({ server, key });
    const { id } = await client.submit("demo.stream", { chunks: 3, interval: "1ms" });
    const events = await all(client.follow(id));
    equal(events.map((e) => e.cursor), ["0.1", "1.1", "1.2", "1.3", "1.4", "1.5"]);
    for (const [i, { cursor }] of events.entries()) {
      equal(await all(client.follow(id, { after: cursor })), events.slice(i + 1), cursor);
    }
  },

  "a cursor ahead is refused": async ({ server, key }) => {
    const client = new Client({ server, key });
    const { id } = await client.submit("demo.echo");
    await client.result(id);
    equal((await rejects(all(client.follow(id, { after: "9.1" })), Problem)).code, "cursor_ahead");
    const unknown = "0198f2c1-7a3e-7c55-9d0e-6f1f7f1b2a90";
    equal((await rejects(all(client.follow(unknown)), Problem)).code, "task_not_found");
  },

  "a task that began anew is followed to its last end": async ({ server, key }) => {
    const client = new Client({ server, key });
    const { id } = await client.submit("demo.flaky", { failures: 1 }, { max_attempts: 1 });
    const ends = async () => (await all(client.follow(id))).filter(terminal).map((e) => e.type === "state" && e.data.state);
    equal(await ends(), ["failed"]);
    await client.retry(id);
    equal(await ends(), ["failed", "succeeded"]);
  },

  "many are followed at once, also one twice": async ({ server, key }) => {
    const client = new Client({ server, key });
    const tasks = await Promise.all(Array.from({ length: 40 }, () => client.submit("demo.stream", { chunks: 5, interval: "1ms" })));
    const lists = await Promise.all([...tasks, ...tasks.slice(0, 3)].map(({ id }) => all(client.follow(id))));
    for (const events of lists) equal(events.length, 8);
    const { id } = tasks[0]!;
    const [rest, whole] = await Promise.all([all(client.follow(id, { after: "1.5" })), all(client.follow(id))]);
    equal([rest.length, whole.length], [2, 8]);
  },

  "a batch is watched to its end": async ({ server, key }) => {
    const client = new Client({ server, key });
    const tasks = Array.from({ length: 20 }, (_, i) => ({ kind: "demo.echo", payload: i }));
    const { batch_id, ids, callback } = await client.submitBatch(tasks, { kind: "demo.echo" });
    const items = await all<Watched>(client.watch({ batch: batch_id }));
    equal(items[0]?.kind, "snapshot");
    equal(items.at(-1), { kind: "end", counts: { succeeded: 20 } });
    equal(await Promise.all((ids ?? []).map((id) => client.result(id))), tasks.map((t) => t.payload));
    await client.result(callback!);
    equal((await client.batch(batch_id)).done, true);
    equal((await all(client.list({ batch_id, limit: 7 }))).length, 20);
  },

  "who has had enough leaves": async ({ server, key }) => {
    const client = new Client({ server, key });
    const { id } = await client.submit("demo.sleep", { duration: "1h" });
    const stop = new AbortController();
    const following = all(client.follow(id, { signal: stop.signal }));
    for await (const item of client.watch({ queue: "default" })) {
      if (item.kind === "snapshot") break;
    }
    stop.abort(new RangeError("enough"));
    equal((await rejects(following, RangeError)).message, "enough");
    equal((await rejects(client.result(id, { wait: 50 }), DOMException)).name, "TimeoutError");
    await client.cancel(id);
  },

  "options are the fields of a task": async ({ server, key }) => {
    const client = new Client({ server, key });
    const task = await client.submit("demo.echo", { a: [null, 1.5, "é\u2028"] }, { priority: 3, labels: { k: "v" }, delay: "1h" });
    equal([task.priority, task.labels, task.state], [3, { k: "v" }, "scheduled"]);
    equal((await all(client.list({ label: ["k=v"], state: ["scheduled"] }))).map((t) => t.id), [task.id]);
    equal((await client.explain(task.id)).waiting?.reason, "time");
    equal((await client.cancel(task.id, "enough")).state, "cancelled");
    await client.delete(task.id);
    equal((await rejects(client.get(task.id), Problem)).code, "task_not_found");
    const refused = await rejects(client.submit("demo.echo", 1, { priority: 1000 }), Problem);
    equal([refused.status, refused.errors.length], [422, 1]);
  },

  "a failure is thrown": async ({ server, key }) => {
    const client = new Client({ server, key });
    const { id } = await client.submit("demo.flaky", { failures: 1 }, { max_attempts: 1 });
    equal((await rejects(client.result(id), Problem)).failure?.code, "flaky");
  },

  "a signal arrives": async ({ server, key }) => {
    const client = new Client({ server, key });
    const { id } = await client.submit("demo.steps", { wait_for: "go" });
    await client.signal(id, "go", { by: "ada" });
    equal((await client.result<{ signal: unknown }>(id)).signal, { by: "ada" });
  },

  "a wrong key is refused, and a revoked one ends what it follows": async ({ server, key }) => {
    const admin = new Client({ server, key });
    const { data: made } = await admin.api.POST("/v1/keys", { body: { name: "n", scopes: ["tasks:read", "tasks:write", "workers"] } });
    const client = new Client({ server, key: made!.key });
    const { id } = await client.submit("demo.sleep", { duration: "1h" });
    const worker = new Worker({ server, key: made!.key }).task("js.never", () => 1);
    const refused = [all(client.follow(id)), worker.run()].map((ends) => rejects(ends, Problem));
    for await (const item of client.watch({ queue: "default" })) if (item.kind === "snapshot") break; // it was let in
    await admin.api.DELETE("/v1/keys/{id}", { params: { path: { id: made!.id } } });
    for (const { status, code } of await Promise.all(refused)) equal([status, code], [401, "unauthorized"]);
    await admin.cancel(id);

    const wrong = { server, key: "trp_wrong" };
    equal((await rejects(all(new Client(wrong).follow(id)), Problem)).status, 401);
    equal((await rejects(new Client(wrong).get(id), Problem)).status, 401);
    equal((await rejects(new Worker(wrong).task("k", () => 1).run(), Problem)).status, 401);
  },
};
