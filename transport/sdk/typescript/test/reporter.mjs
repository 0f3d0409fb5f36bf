// Says of each test, in a line of JSON, how it ended.
export default async function* report(events) {
  for await (const { type, data } of events) {
    if (type !== "test:pass" && type !== "test:fail" || data.nesting > 0) continue;
    const cause = data.details?.error?.cause ?? data.details?.error;
    const outcome = type === "test:fail" ? "failed" : data.skip !== undefined || data.todo !== undefined ? "skipped" : "passed";
    yield JSON.stringify({ test: data.name, outcome, text: String(cause?.stack ?? cause ?? "") }) + "\n";
  }
}
