import assert from "node:assert/strict";
import { gatherNumbers, gatherValues } from "../../../lib/comm/exchange/gather.ts";
import { withGroup } from "./groups.ts";

Deno.test("gatherValues: every rank gets all values, of any length", async () => {
  for (const size of [1, 2, 3, 4]) {
    const value = (rank: number) => ({ rank, text: "ü".repeat(rank * 40_000), figures: [rank / 3, null] });
    const expected = Array.from({ length: size }, (_, rank) => value(rank));
    const found = await withGroup(size, (communicator) => gatherValues(communicator, value(communicator.rank)));
    for (const values of found) assert.deepEqual(values, expected);
  }
});

Deno.test("gatherNumbers: every rank gets all numbers to the last bit, finite or not", async () => {
  for (const size of [1, 2, 3, 4]) {
    for (const count of [1, 16, 17, 5000]) {
      const numbers = (rank: number) => [NaN, ...Array.from({ length: count - 1 }, (_, i) => (rank + 1) / (i + 3))];
      const expected = Array.from({ length: size }, (_, rank) => Float64Array.from(numbers(rank)));
      const found = await withGroup(size, (communicator) => gatherNumbers(communicator, numbers(communicator.rank)));
      for (const values of found) assert.deepEqual(values, expected);
    }
  }
});
