/** Memory of the GPU does not grow with the steps, beside saves and held-out losses. The long run looks at the process too. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { collect, configOf, inScratch } from "./runs.ts";

Deno.test("every step of a run has the GPU bytes of the first, whatever is between them", () =>
  inScratch(async (folder) => {
    const events = await collect(configOf(folder, {
      train_steps: 12,
      checkpointing_steps: 4,
      checkpointing_limit: 1,
      heldout_root: join(folder, "clips"),
      heldout_steps: 6,
      offload_optimizer: true,
    }));
    const bytes = events.flatMap((event) => event.type === "step" ? [event.gpuBytes] : []);
    assert.equal(bytes.length, 12);
    assert.deepEqual([...new Set(bytes)], [bytes[0]]);
  }));
