/** The control block: counters that wrap around, and whose fault it is that a rank waits. */
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { PeerError } from "../../../lib/comm/exchange/communicator.ts";
import { Control, reached } from "../../../lib/comm/shared_memory/control.ts";
import { createRegion, regionShape } from "../../../lib/comm/shared_memory/region.ts";
import { joinSharedMemory } from "../../../lib/comm/shared_memory/shared_memory.ts";
import { smallStaging } from "./groups.ts";

const shape = regionShape(4, smallStaging, 2 ** 20);

Deno.test("a counter has come to its target before and behind the wrap-around of 32 bits", () => {
  const last = 2 ** 31 - 1;
  assert.deepEqual([reached(7, 7), reached(8, 7), reached(6, 7)], [true, true, false]);
  const wrapped = (last + 1) | 0;
  assert.deepEqual([reached(wrapped, last), reached(last, wrapped)], [true, false]);
});

Deno.test("the culprit is the end of a chain of waiting ranks", () => {
  using region = createRegion(shape);
  const control = new Control(region.control, region.address, shape.size);
  assert.equal(control.culprit(2), 2);
  control.setAwaited(0, 1, 5);
  control.setAwaited(1, 3, 9);
  assert.equal(control.culprit(0), 3, "3 waits for nobody");
  control.setCounter(3, 9);
  assert.equal(control.culprit(0), 1, "1 has what it waits for");
  control.setAwaited(1, undefined);
  control.setAwaited(3, 0, 1);
  control.setAwaited(0, 3, 10);
  assert.equal(control.culprit(3), 3, "0 and 3 wait for each other");
});

Deno.test("descriptions of two exchanges in a row lie side by side, with sizes above 4 GiB", () => {
  using region = createRegion(shape);
  const control = new Control(region.control, region.address, shape.size);
  const exchange = (number: number) => ({ number, kind: number % 6, bytes: 5 * 2 ** 32 + number, detail: 3 * number });
  for (const number of [6, 7]) control.setExchange(1, exchange(number));
  assert.deepEqual([control.exchange(1, 6), control.exchange(1, 7)], [exchange(6), exchange(7)]);
});

Deno.test("until the first step has ended ranks wait as long as compiling takes, then as long as usual", async () => {
  const pair = regionShape(2, smallStaging, 2 ** 20);
  using region = createRegion(pair);
  const deadlines = { usual: 250, firstStep: 60_000 };
  const [first, second] = [0, 1].map((rank) => joinSharedMemory({ path: region.path, shape: pair, rank, deadlines }));
  // The second comes long after the usual deadline.
  const met = first!.barrier();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await Promise.all([met, second!.barrier()]);
  for (const rank of [first!, second!]) rank.endStep();
  const expected = (error: unknown) =>
    error instanceof PeerError && error.culprit === 1 && error.message.includes("made no progress for 250 ms");
  await assert.rejects(first!.barrier(), expected);
});

Deno.test("the time in which a machine slept is not held against a rank", async () => {
  const pair = regionShape(2, smallStaging, 2 ** 20);
  using region = createRegion(pair);
  const deadlines = { usual: 60_000, firstStep: 60_000 };
  const [first, second] = [0, 1].map((rank) => joinSharedMemory({ path: region.path, shape: pair, rank, deadlines }));
  const now = performance.now;
  let slept = 0;
  performance.now = () => now.call(performance) + slept;
  try {
    const met = first!.barrier();
    await new Promise((resolve) => setTimeout(resolve, 300));
    slept = 3_600_000;
    await new Promise((resolve) => setTimeout(resolve, 600));
    await Promise.all([met, second!.barrier()]);
  } finally {
    performance.now = now;
  }
});

Deno.test("shared memory is for its user alone", () => {
  using region = createRegion(shape);
  assert.equal(statSync(region.path).mode & 0o777, 0o600);
});
