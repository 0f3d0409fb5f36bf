import { once } from "node:events";
import { test } from "node:test";

import { Client } from "@troupe/client";
import { WebSocketServer } from "ws";

import { real } from "./real.js";
import { scripted } from "./scripted.js";
import { realWorker, scriptedWorker } from "./worker.js";
import { all, equal } from "./world.js";

const { TROUPE_SERVER: server, TROUPE_KEY: key, TROUPE_TEST_CONTROL: control } = process.env;
if (!server || !key || !control) throw new Error("go test ./transport/sdk starts the server that these tests need");

const world = {
  server,
  key,
  control: async (verb: string) => {
    const response = await fetch(`${control}/${verb}`, { method: "POST" });
    if (!response.ok) throw new Error(await response.text());
  },
};

for (const [name, run] of Object.entries({ ...scripted, ...scriptedWorker, ...real, ...realWorker })) test(name, () => run(world));

test("in Node the key goes in a header", async () => {
  const fake = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  await once(fake, "listening");
  const headers: unknown[] = [];
  fake.on("connection", (socket, request) => {
    headers.push(request.headers.authorization, request.url);
    socket.on("message", (text) => {
      const [asked] = JSON.parse(String(text)) as [{ id: number }];
      socket.send(JSON.stringify([{ id: asked.id, result: { subscription: "task:t" } }, { method: "end", params: { subscription: "task:t" } }]));
    });
    socket.send('{"jsonrpc":"2.0","method":"hello","params":{}}');
  });
  const { port } = fake.address() as { port: number };
  const hasOwn = "WebSocket" in globalThis;
  const { WebSocket } = globalThis as { WebSocket?: unknown };
  Reflect.deleteProperty(globalThis, "WebSocket"); // as in Node 20
  try {
    equal(await all(new Client({ server: `http://127.0.0.1:${port}/`, key: "trp_secret" }).follow("t")), []);
  } finally {
    if (hasOwn) Object.assign(globalThis, { WebSocket });
    fake.close();
  }
  equal(headers, ["Bearer trp_secret", "/v1/ws"]);
});
