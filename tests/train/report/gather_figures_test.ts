import assert from "node:assert/strict";
import { blockOf } from "../../../lib/comm/exchange/tree.ts";
import { gatherFigures } from "../../../lib/train/report/gather_figures.ts";
import { withGroup } from "../../comm/exchange/groups.ts";

Deno.test("gatherFigures: every rank learns all losses, and the seconds and bytes of each rank", async () => {
  const total = 7;
  const losses = Array.from({ length: total }, (_, i) => i === 3 ? NaN : Math.fround(1 / (i + 1)));
  for (const size of [1, 2, 3, 4]) {
    const usage = (rank: number) => ({ seconds: 1 / (rank + 3), gpuBytes: 2 ** 40 + 4 * rank });
    const all = await withGroup(size, (communicator) => {
      const { rank } = communicator;
      const { begin, end } = blockOf(total, rank, size);
      return gatherFigures(communicator, { losses: losses.slice(begin, end), begin, total, ...usage(rank) });
    });
    for (const figures of all) {
      assert.deepEqual(figures, { losses, ranks: Array.from({ length: size }, (_, rank) => usage(rank)) });
    }
  }
});
