import assert from "node:assert/strict";
import { CanonicalSum } from "../../../lib/comm/exchange/canonical.ts";
import { canonicalSum } from "./canonical_sum.ts";
import { shardOf } from "../../../lib/comm/exchange/arrays.ts";
import { blockOf, nodesOf, treeSums } from "../../../lib/comm/exchange/tree.ts";
import { smallStaging, withGroup } from "./groups.ts";

/** Values of widely different size, so that almost every order of summing gives bits of its own. */
function gradient(index: number, length: number): Float32Array<ArrayBuffer> {
  return Float32Array.from(
    { length },
    (_, i) => Math.sin(1 + i * 12.9898 + index * 78.233) * 10 ** ((i + index) % 7 - 3),
  );
}

/** The definition: left child of the largest power of two below the count, in float32. */
function reference(begin: number, end: number, length: number): Float32Array<ArrayBuffer> {
  if (end - begin === 1) return gradient(begin, length);
  let power = 1;
  while (2 * power < end - begin) power *= 2;
  const left = reference(begin, begin + power, length);
  const right = reference(begin + power, end, length);
  return left.map((x, i) => Math.fround(x + right[i]!));
}

const bits = (data: Float32Array) => new Uint32Array(data.buffer, data.byteOffset, data.length).join(" ");

Deno.test("the tree: blocks cover the step, nodes cover the block, sums end in the first node", () => {
  assert.deepEqual([0, 1, 2].map((rank) => blockOf(8, rank, 3)), [
    { begin: 0, end: 2 },
    { begin: 2, end: 5 },
    { begin: 5, end: 8 },
  ]);
  assert.deepEqual(nodesOf({ begin: 2, end: 5 }, 8), [{ begin: 2, end: 4 }, { begin: 4, end: 5 }]);
  assert.deepEqual(nodesOf({ begin: 4, end: 7 }, 7), [{ begin: 4, end: 7 }]);
  const nodes = [{ begin: 0, end: 2 }, { begin: 2, end: 4 }, { begin: 4, end: 5 }];
  assert.deepEqual(treeSums(nodes, 5), [{ into: 0, from: 1 }, { into: 0, from: 2 }]);
});

for (
  const [total, length] of [[8, 1], [8, 4097], [4, smallStaging], [7, 1001], [3, 257], [1, 130], [12, 777]] as const
) {
  Deno.test(`canonical sums of ${total} micro-batches of ${length} values: identical bits at 1, 2, 3 and 4 ranks`, async () => {
    const expected = bits(reference(0, total, length));
    for (const size of [1, 2, 3, 4]) {
      await withGroup(size, async (communicator) => {
        const { rank } = communicator;
        const { begin, end } = blockOf(total, rank, size);
        const parts = Array.from({ length: end - begin }, (_, i) => ({
          index: begin + i,
          data: gradient(begin + i, length),
        })).reverse();
        const into = new Float32Array(length).fill(NaN);
        await canonicalSum(communicator, parts, total, into);
        assert.equal(bits(into), expected, `rank ${rank} of ${size}`);
        parts.forEach(({ index, data }) => assert.equal(bits(data), bits(gradient(index, length))));
      });
    }
  });
}

Deno.test("CanonicalSum: step after step with shards, arrays reused", async () => {
  const length = 3000;
  for (const size of [1, 2, 4]) {
    await withGroup(size, async (communicator) => {
      const sum = new CanonicalSum(communicator, length);
      const into = communicator.allocate("f32", length);
      for (const total of [8, 5, 8, 2]) {
        sum.begin(total);
        for (let index = sum.block.begin; index < sum.block.end; index++) {
          sum.next().set(gradient(index, length));
          sum.push();
        }
        assert.throws(() => sum.push(), RangeError);
        await sum.reduce(into, { scatter: true });
        const { begin, end } = shardOf(length, communicator.rank, size);
        assert.equal(
          bits(into.slice(begin, end)),
          bits(reference(0, total, length).slice(begin, end)),
          `${total} over ${size}`,
        );
        await communicator.allGather(into);
        assert.equal(bits(into), bits(reference(0, total, length)));
      }
    });
  }
});

Deno.test("what is missing or foreign is named", async () => {
  await withGroup(1, async (communicator) => {
    const data = new Float32Array(4);
    const into = new Float32Array(4);
    await assert.rejects(canonicalSum(communicator, [{ index: 1, data }], 2, into), /micro-batch 1: expected 0/);
    await assert.rejects(canonicalSum(communicator, [{ index: 0, data }], 2, into), /sums of 0 to 0, expected 0 to 1/);
    await assert.rejects(
      communicator.reduceTree([{ begin: 0, end: 1, data }], 1, new Float32Array(5)),
      /4 values into one of 5/,
    );
    assert.throws(() => new CanonicalSum(communicator, 4).begin(0), RangeError);
  });
});
