import type { Failure, FieldError, Problem as Document } from "./openapi.js";

/** The server refused, and says why as RFC 9457 has it. `code` is stable and for programs. */
export class Problem extends Error {
  override readonly name = "Problem";
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: string;
  readonly errors: readonly FieldError[];
  readonly requestId: string | undefined;
  /** Why the task failed whose result was asked for. */
  readonly failure: Failure | undefined;

  constructor(
    document: Partial<Document>,
    /** In how many milliseconds to come again, where the server said so. */
    readonly retryAfter?: number,
  ) {
    super(sentence(document));
    this.type = document.type ?? "about:blank";
    this.title = document.title ?? "";
    this.status = document.status ?? 0;
    this.detail = document.detail ?? "";
    this.code = document.code ?? "";
    this.errors = document.errors ?? [];
    this.requestId = document.request_id;
    this.failure = document.error;
  }

  /** Makes a problem of a refusal; what is no problem document becomes one. */
  static of(status: number, body: unknown, retryAfter?: number): Problem {
    if (typeof body === "object" && body !== null && "code" in body && typeof body.code === "string") {
      return new Problem(body as Partial<Document>, retryAfter);
    }
    const detail = `The server answered ${status}.`;
    return new Problem({ title: "Refused", status, code: "http_error", detail }, retryAfter);
  }

  /** Whether it may be over at the next try, without asking for anything else. */
  get passing(): boolean {
    // That a deadline cannot be met is an answer.
    return [502, 503, 504].includes(this.status) && this.code !== "deadline_unreachable";
  }
}

function sentence(p: Partial<Document>): string {
  let text = p.detail ? `${p.title}: ${p.detail}` : (p.title ?? "");
  for (const wrong of p.errors ?? []) text += `; ${wrong.path} ${wrong.message}`;
  if (p.error) text += ` ${p.error.code}: ${p.error.message}`;
  return p.code ? `${text} (${p.code})` : text;
}

/** No server answers. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
}
