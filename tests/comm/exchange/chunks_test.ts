/** Exchanges whose segments take several chunks of 256 KiB, the last of them partly filled. */
import assert from "node:assert/strict";
import { shardOf } from "../../../lib/comm/exchange/arrays.ts";
import { createRegion, regionShape } from "../../../lib/comm/shared_memory/region.ts";
import { joinSharedMemory, type SharedMemory } from "../../../lib/comm/shared_memory/shared_memory.ts";

/** Three chunks and a rest for each of three ranks, in float32. */
const LENGTH = 3 * (3 * 65_536 + 1000);

async function withLargeRegion(size: number, body: (rank: SharedMemory) => Promise<void>): Promise<void> {
  const shape = regionShape(size, 4 * 2 ** 20, 8 * 2 ** 20);
  using region = createRegion(shape);
  const ranks = Array.from({ length: size }, (_, rank) => joinSharedMemory({ path: region.path, shape, rank }));
  await Promise.all(ranks.map(body));
}

/** Whole numbers of a rank, whose sums are exact. */
const value = (rank: number, i: number) => (i * 7 + 13 * rank) % 1001;

/** Place of the first element that is not what it should be, or -1. */
const firstWrong = (found: Float32Array, expected: (i: number) => number, { begin = 0, end = LENGTH } = {}) => {
  for (let i = begin; i < end; i++) if (found[i] !== expected(i)) return i;
  return -1;
};

for (const size of [2, 3]) {
  for (const place of ["in shared memory", "elsewhere"]) {
    Deno.test(`large arrays ${place} are summed, gathered and broadcast among ${size} ranks to the last element`, () =>
      withLargeRegion(size, async (communicator) => {
        const { rank } = communicator;
        const fresh = () => {
          const array = place === "elsewhere" ? new Float32Array(LENGTH) : shared;
          for (let i = 0; i < LENGTH; i++) array[i] = value(rank, i);
          return array;
        };
        const shared = communicator.allocate("f32", LENGTH);
        const sum = (i: number) => Array.from({ length: size }, (_, rank) => value(rank, i)).reduce((a, b) => a + b, 0);
        const reduced = fresh();
        await communicator.allReduce(reduced);
        assert.equal(firstWrong(reduced, sum), -1, "allReduce");
        const own = shardOf(LENGTH, rank, size);
        const scattered = fresh();
        await communicator.reduceScatter(scattered);
        assert.equal(firstWrong(scattered, sum, own), -1, "reduceScatter");
        const gathered = fresh();
        await communicator.allGather(gathered);
        for (let other = 0; other < size; other++) {
          const theirs = shardOf(LENGTH, other, size);
          assert.equal(firstWrong(gathered, (i) => value(other, i), theirs), -1, "allGather");
        }
        const told = fresh();
        await communicator.broadcast(told, size - 1);
        assert.equal(firstWrong(told, (i) => value(size - 1, i)), -1, "broadcast");
      }));
  }
}
