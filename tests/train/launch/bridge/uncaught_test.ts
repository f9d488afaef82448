/** What fails in a worker or a rank without anybody waiting for it ends the run with its message, and not the program. */
import assert from "node:assert/strict";
import { resolveConfig } from "../../../../lib/config/config.ts";
import { workerEvents } from "../../../../lib/train/launch/worker.ts";
import type { TrainEvent } from "../../../../lib/train/report/events.ts";
import { SENT } from "./messages.ts";

const module = new URL("uncaught_program.ts", import.meta.url);

for (const [seed, what] of ["a promise", "a timer"].entries()) {
  Deno.test(`${what} that fails in a worker without being waited for ends the run with one error`, async () => {
    const { config } = resolveConfig("preset: 5b-lora", { overrides: { seed } });
    const events: TrainEvent[] = [];
    await assert.rejects(async () => {
      for await (const event of workerEvents(module, config)) events.push(event);
    }, /nobody waits for this/);
    assert.deepEqual(events, SENT);
  });
}
