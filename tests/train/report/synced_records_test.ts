/** Records are on disk before the checkpoint that they lead to: a run cut back to a checkpoint finds all of them. */
import assert from "node:assert/strict";
import { listCheckpoints } from "../../../lib/io/checkpoints.ts";
import { MetricsLog } from "../../../lib/train/report/metrics_log.ts";
import { collect, configOf, inScratch } from "../runs.ts";

Deno.test("metrics are put on disk before every checkpoint", () =>
  inScratch(async (folder) => {
    const config = configOf(folder, { checkpointing_steps: 2 });
    const { sync } = MetricsLog.prototype;
    const before: number[][] = [];
    MetricsLog.prototype.sync = function (): void {
      sync.call(this);
      before.push(listCheckpoints(config.output_dir).map(({ step }) => step));
    };
    try {
      await collect(config);
    } finally {
      MetricsLog.prototype.sync = sync;
    }
    assert.deepEqual(before, [[], [2]]);
  }));
