import { Client, Problem, Unreachable, type WebSocketLike } from "@troupe/client";

import { all, equal, rejects, type Cases } from "./world.js";

type Handler = ((event: never) => void) | null;

/** A WebSocket whose other side is a function. */
export class Scripted implements WebSocketLike {
  onopen: Handler = null;
  onmessage: Handler = null;
  onclose: Handler = null;
  onerror: Handler = null;
  readonly asked: Record<string, unknown>[] = [];
  over = false;

  constructor(readonly url: string, readonly protocols: string[], play: Play) {
    queueMicrotask(() => {
      this.onopen?.({} as never);
      play(this);
    });
  }

  send(text: string): void {
    const messages: unknown = JSON.parse(text);
    for (const m of Array.isArray(messages) ? messages : [messages]) this.asked.push(m as Record<string, unknown>);
    this.#hear();
  }

  close(code = 1005, reason = ""): void {
    if (this.over) return;
    this.over = true;
    queueMicrotask(() => this.onclose?.({ code, reason } as never));
  }

  say(...messages: unknown[]): void {
    for (const m of messages) this.onmessage?.({ data: typeof m === "string" ? m : JSON.stringify(m) } as never);
  }

  hello(): void {
    this.say({ jsonrpc: "2.0", method: "hello", params: { session: "s", limits: { subscriptions: 2, message: 100_000 } } });
  }

  /** Resolves when it was asked for so many things. */
  async heard(n: number): Promise<Record<string, unknown>> {
    while (this.asked.length < n) await new Promise<void>((resolve) => (this.#hear = resolve));
    return this.asked[n - 1]!;
  }
  #hear = () => {};

  /** Answers the n-th thing it is asked, a subscribe. */
  async subscribed(n = 1): Promise<string | undefined> {
    const { id, params } = await this.heard(n);
    this.say({ jsonrpc: "2.0", id, result: { subscription: "task:t", task: { id: "t" } } });
    return (params as { after?: string }).after;
  }
}

export type Play = (socket: Scripted) => void;

/** A client whose connections are played by one function after the other, and whose calls by another. */
export function stage(plays: Play[], respond: (request: Request) => Response | Promise<Response> = () => Response.json({ tasks: [] })) {
  const sockets: Scripted[] = [];
  const requests: Request[] = [];
  const WebSocket = class extends Scripted {
    constructor(url: string, protocols: string[]) {
      super(url, protocols, plays[Math.min(sockets.length, plays.length - 1)]!);
      sockets.push(this);
    }
  };
  const fetch = async (input: RequestInfo | URL, init?: RequestInit) => {
    const request = new Request(input, init);
    requests.push(request.clone());
    return respond(request);
  };
  const options = { server: "http://troupe.test", fetch, WebSocket };
  const client = (key = "") => new Client({ ...options, key });
  return { client, options, sockets, requests };
}

const event = (cursor: string) => ({
  jsonrpc: "2.0", method: "event", params: { subscription: "task:t", event: { task: "t", cursor, type: "output", at: "", data: {} } },
});
const end = { jsonrpc: "2.0", method: "end", params: { subscription: "task:t" } };
const cursors = async (client: Client, after?: string) =>
  (await all(client.follow("t", after === undefined ? {} : { after }))).map((e) => `${e.type} ${e.cursor}`);

const endless: Play = async (s) => {
  s.hello();
  await s.subscribed();
};
const ends: Play = async (s) => {
  s.hello();
  await s.subscribed();
  s.say(end);
};

/** Against servers that play a script. */
export const scripted: Cases = {
  "it goes on behind the last event": async () => {
    const afters: unknown[] = [];
    const { client, sockets } = stage([
      async (s) => {
        s.hello();
        afters.push(await s.subscribed());
        s.say(event("0.1"), event("1.1"), event("1.1"));
        s.close(1006);
      },
      (s) => s.close(1006),
      async (s) => {
        s.hello();
        afters.push(await s.subscribed());
        s.say([event("1.1"), event("1.2")], event("1.10"), event("2.1"), end);
      },
    ]);
    equal(await cursors(client()), ["output 0.1", "output 1.1", "output 1.2", "output 1.10", "output 2.1"]);
    equal(afters, [undefined, "1.1"].map((a) => a ?? null));
    equal(sockets.length, 3);
  },

  "a gap is said and moves no cursor": async () => {
    const gap = { jsonrpc: "2.0", method: "gap", params: { subscription: "task:t", first: "2.1" } };
    const { client } = stage([
      async (s) => {
        s.hello();
        await s.subscribed();
        s.say(gap, event("2.1"), end);
      },
    ]);
    equal(await cursors(client(), "1.1"), ["gap 1.1", "output 2.1"]);
  },

  "who falls behind is served from the log": async () => {
    const many = 3000;
    const { client, sockets } = stage([
      async (s) => {
        s.hello();
        for (let asked = 1, next = 1; ; asked += 2) {
          const after = await s.subscribed(asked);
          next = after === undefined ? 1 : Number(after.split(".")[1]) + 1;
          for (; next <= many && s.asked.length === asked; next++) s.say(event(`1.${next}`));
          if (next > many) return s.say(end);
          equal(s.asked[asked]?.["method"], "unsubscribe");
        }
      },
    ]);
    equal((await cursors(client())).length, many);
    equal(sockets[0]!.asked.filter((m) => m["method"] === "subscribe").length, 3);
  },

  "codes of 44xx and faults of ours end it": async () => {
    for (const [code, status, name] of [[4401, 401, "unauthorized"], [4403, 403, "forbidden"], [1009, 400, "socket_closed"]] as const) {
      const { client, sockets } = stage([
        async (s) => {
          s.hello();
          await s.subscribed();
          s.close(code);
        },
      ]);
      const p = await rejects(cursors(client()), Problem);
      equal([p.status, p.code, sockets.length], [status, name, 1]);
    }
  },

  "other codes bring it back": async () => {
    for (const code of [1000, 1001, 1006, 1008, 1012, 4101, 4108, 4229]) {
      if (code === 1008) continue; // seconds later
      const { client, sockets } = stage([
        async (s) => {
          s.hello();
          await s.subscribed();
          s.say({ jsonrpc: "2.0", method: "goodbye", params: { delay: "1ms" } });
          s.close(code);
        },
        ends,
      ]);
      equal(await cursors(client()), []);
      equal(sockets.length, 2, String(code));
    }
  },

  "what is no message ends the connection, not the follower": async () => {
    for (const text of ["{", "[", ""]) {
      const { client } = stage([
        async (s) => {
          s.hello();
          await s.subscribed();
          s.say(text);
        },
        ends,
      ]);
      equal(await cursors(client()), []);
    }
  },

  "a refusal ends it, a busy server does not": async () => {
    const refuse = (status: number, code: string): Play => async (s) => {
      s.hello();
      const { id } = await s.heard(1);
      s.say({ jsonrpc: "2.0", id, error: { code: -32000, message: "m", data: { status, code, title: "T" } } });
    };
    equal((await rejects(cursors(stage([refuse(404, "task_not_found")]).client()), Problem)).code, "task_not_found");
    for (const status of [429, 500, 503]) equal(await cursors(stage([refuse(status, "busy"), ends]).client()), []);
  },

  "why no socket opens is asked over HTTP": async () => {
    const closes: Play = (s) => s.close(1006);
    const refused = Response.json({ status: 401, code: "unauthorized", title: "Unauthorized" }, { status: 401 });
    equal((await rejects(cursors(stage([closes], () => refused).client()), Problem)).status, 401);
    const gone = () => Promise.reject(new TypeError("fetch failed"));
    await rejects(cursors(stage([closes], gone).client()), Unreachable);
    const { client, sockets } = stage([closes]);
    await rejects(cursors(client()), Unreachable);
    equal(sockets.length, 3);
  },

  "a page shows a ticket for each connection": async () => {
    let n = 0;
    const { client, sockets, requests } = stage(
      [
        async (s) => {
          s.hello();
          await s.subscribed();
          s.close(4101);
        },
        ends,
      ],
      () => Response.json({ ticket: `t${++n}` }, { status: 201 }),
    );
    await cursors(client("trp_secret"));
    equal(sockets.map((s) => s.url), ["ws://troupe.test/v1/ws?ticket=t1", "ws://troupe.test/v1/ws?ticket=t2"]);
    equal(requests.map((r) => [r.method, r.url, r.headers.get("Authorization")]), Array(2).fill(["POST", "http://troupe.test/v1/tickets", "Bearer trp_secret"]));
    equal(sockets[0]!.protocols, ["troupe.v1.json"]);
  },

  "a topic is once on a connection, and no connection has more than it may": async () => {
    const answerAll: Play = async (s) => {
      s.hello();
      for (let n = 1; ; n++) {
        const { id, params } = await s.heard(n);
        const name = `task:${(params as { task: string }).task}`;
        s.say({ jsonrpc: "2.0", id, result: { subscription: name } }, { jsonrpc: "2.0", method: "end", params: { subscription: name } });
      }
    };
    const { client, sockets } = stage([answerAll]);
    const c = client();
    await Promise.all(["a", "a", "b"].map((t) => all(c.follow(t))));
    equal(sockets.length, 2);
    await all(c.follow("a")); // nobody was left, so there is a new one
    equal(sockets.length, 3);
  },

  "a feed that was interrupted begins with a new view": async () => {
    const view = (tasks: unknown[], close: boolean): Play => async (s) => {
      s.hello();
      const { id } = await s.heard(1);
      s.say({ jsonrpc: "2.0", id, result: { subscription: "queue:q", tasks } });
      if (close) s.close(1006);
    };
    const { client } = stage([view([{ id: "a" }], true), view([{ id: "b" }], false)]);
    const items = [];
    for await (const item of client().watch({ queue: "q" })) if (items.push(item) === 2) break;
    equal(items, [{ kind: "snapshot", tasks: [{ id: "a" }] }, { kind: "reset", tasks: [{ id: "b" }] }]);
  },

  "leaving ends the connection": async () => {
    const { client, sockets } = stage([endless]);
    for await (const item of client().watch({ task: "t" })) if (item.kind === "snapshot") break;
    equal(sockets[0]!.over, true);
    equal((await sockets[0]!.heard(2))["method"], "unsubscribe");
  },

  "a lost answer never makes a second task": async () => {
    let n = 0;
    const { client, requests } = stage([], () => {
      if (++n === 1) throw new TypeError("fetch failed");
      return n === 2 ? new Response(null, { status: 503 }) : Response.json({ id: "x" }, { status: 201 });
    });
    equal((await client().submit("k", 1, { delay: "5s" })).id, "x");
    const bodies = await Promise.all(requests.map((r) => r.text()));
    equal(bodies, Array(3).fill(bodies[0]));
    equal(/"id":"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab]/.test(bodies[0]!) && !bodies[0]!.includes("delay"), true, bodies[0]);
  },

  "what must not be done twice is not": async () => {
    const { client, requests } = stage([], () => Promise.reject(new TypeError("fetch failed")));
    await rejects(client().retry("t"), Unreachable);
    equal(requests.length, 1);
  },

  "a refusal is a Problem, whatever it looks like": async () => {
    const body = { type: "t", title: "T", status: 422, detail: "D.", code: "c", errors: [{ path: "p", message: "m" }], request_id: "r" };
    const { client } = stage([], () => Response.json(body, { status: 422, headers: { "Retry-After": "3" } }));
    const p = await rejects(client("k").get("t"), Problem);
    equal([p.message, p.code, p.status, p.requestId, p.retryAfter, p.type], ["T: D.; p m (c)", "c", 422, "r", 3000, "t"]);
    for (const text of ["<html>", "[]", "{}", ""]) {
      const { client } = stage([], () => new Response(text, { status: 404 }));
      equal((await rejects(client().get("t"), Problem)).code, "http_error");
    }
  },
};
