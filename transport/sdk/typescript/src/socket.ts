import { credential, makeApi, once, type Settings } from "./calls.js";
import { Problem } from "./problem.js";

/** What is used of a WebSocket: the browser's, Node's, or that of the package `ws`. */
export interface WebSocketLike {
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

/** Makes WebSockets. */
export interface WebSocketMaker {
  new (url: string, protocols: string[], options?: { headers: Record<string, string> }): WebSocketLike;
}

/** How a connection ended. */
export interface Closed {
  code: number;
  reason: string;
}

/** What happens on a connection. */
export interface Listener {
  message(message: Message, connection: Connection): void;
}

/** A JSON-RPC message, either way. */
export interface Message {
  id?: number;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { code: number; message: string; data?: unknown };
}

/** How long a connection may take to open, in milliseconds. */
const opening = 15_000;

/** Speaks over one WebSocket. */
export class Connection {
  readonly closed: Promise<Closed>;
  /** When something was last heard. */
  heard = performance.now();
  #socket: WebSocketLike;
  #end: (closed: Closed) => void;

  constructor(socket: WebSocketLike, listener: Listener) {
    this.#socket = socket;
    let end: (closed: Closed) => void = () => {};
    this.closed = new Promise((resolve) => (end = resolve));
    const slow = setTimeout(() => this.abandon("it does not open"), opening);
    this.#end = (closed) => {
      clearTimeout(slow);
      end(closed);
    };
    socket.onopen = () => clearTimeout(slow);
    socket.onmessage = ({ data }: { data: unknown }) => {
      this.heard = performance.now();
      if (typeof data !== "string") return this.abandon("it is no text");
      let text: unknown;
      try {
        text = JSON.parse(data);
      } catch {
        return this.abandon("it is no JSON");
      }
      for (const message of (Array.isArray(text) ? text : [text]) as Message[]) listener.message(message, this);
    };
    socket.onclose = ({ code, reason }: Closed) => this.#end({ code, reason });
    socket.onerror = () => {}; // the close that follows says more
  }

  send(message: unknown): void {
    this.say(JSON.stringify(message));
  }

  /** Sends what is written already. */
  say(text: string): void {
    this.#socket.send(text);
  }

  close(): void {
    this.#socket.close(1000);
  }

  /** Gives up a connection that is of no more use, without waiting for the other side. */
  abandon(reason: string): void {
    const { onclose } = this.#socket;
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    if (onclose !== null) this.#socket.close(4000, reason);
    this.#end({ code: 1006, reason });
  }
}

/** Opens a connection. It tells the listener, and by its own end, how it goes. */
export async function connect(
  settings: Settings, make: WebSocketMaker | undefined, path: string, protocol: string, listener: Listener,
): Promise<Connection> {
  const url = new URL(settings.server.replace(/^http/, "ws") + path);
  const maker = make ?? (globalThis as { WebSocket?: WebSocketMaker }).WebSocket;
  if (maker !== undefined) {
    // No browser lets a page add a header, so it shows a ticket.
    if (settings.key) url.searchParams.set("ticket", await ticketOf(settings));
    return new Connection(new maker(url.href, [protocol]), listener);
  }
  const ws = await nodeWebSocket();
  return new Connection(new ws(url.href, [protocol], { headers: credential(settings) }), listener);
}

async function nodeWebSocket(): Promise<WebSocketMaker> {
  const name = "ws"; // not for bundlers to look for
  try {
    const module = (await import(name)) as { WebSocket: WebSocketMaker };
    return module.WebSocket;
  } catch (cause) {
    throw new Error("this runtime has no WebSocket of its own: install the package ws", { cause });
  }
}

async function ticketOf(settings: Settings): Promise<string> {
  const { data } = await once((signal) => makeApi(settings).POST("/v1/tickets", { signal }));
  return data.ticket;
}

/** Whether a close code says that coming back unchanged is of no use. */
export function final({ code }: Closed): boolean {
  return code >= 4400 && code < 4500 || [1002, 1003, 1007, 1009].includes(code);
}

/** What a final close is to whoever waits. */
export function closedProblem({ code, reason }: Closed): Problem {
  if (code >= 4400) {
    const names: Record<number, string> = { 4401: "unauthorized", 4403: "forbidden" };
    return new Problem({ title: "Refused", status: code - 4000, code: names[code] ?? "refused", detail: reason });
  }
  return new Problem({ title: "Refused", status: 400, code: "socket_closed", detail: `The server closed with ${code}: ${reason}` });
}
