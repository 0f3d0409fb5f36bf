// A worker that is killed at any time. It stands beside the package when it runs.
import { Unreachable, Worker } from "@troupe/client";

const worker = new Worker({ slots: 8 });

worker.task("typescript.echo", async (attempt) => {
  await attempt.text("begun");
  await new Promise((resolve) => setTimeout(resolve, Math.random() * 100));
  return attempt.step("once", () => attempt.payload);
});

for (let again = true; again; ) {
  again = await worker.run().then(
    () => false,
    (e) => e instanceof Unreachable || Promise.reject(e), // the server has just been killed, too
  );
}
