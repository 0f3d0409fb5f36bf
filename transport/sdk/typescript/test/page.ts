import { real } from "./real.js";
import { scripted } from "./scripted.js";
import { realWorker, scriptedWorker } from "./worker.js";
import type { World } from "./world.js";

/** Runs the tests in a page, and tells the server that it came from how each ended. */
async function main(): Promise<void> {
  const world: World = {
    server: location.origin,
    key: document.querySelector<HTMLMetaElement>("meta[name=key]")!.content,
    control: async (verb) => {
      const response = await fetch(`/control/${verb}`, { method: "POST" });
      if (!response.ok) throw new Error(await response.text());
    },
  };
  const say = (verdict: unknown) => fetch("/verdicts", { method: "POST", body: JSON.stringify(verdict) });
  for (const [test, run] of Object.entries({ ...scripted, ...scriptedWorker, ...real, ...realWorker })) {
    try {
      await run(world);
      await say({ test, outcome: "passed" });
    } catch (e) {
      await say({ test, outcome: "failed", text: e instanceof Error ? e.stack : String(e) });
    }
  }
  await say({ test: "", outcome: "done" });
}

void main();
