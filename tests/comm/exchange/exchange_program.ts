/**
 * A rank that checks every kind of exchange element by element, however the group was started.
 * Run: mpirun -n 2 deno run -A tests/comm/exchange/exchange_program.ts
 */
import assert from "node:assert/strict";
import { canonicalSum } from "./canonical_sum.ts";
import { PeerError } from "../../../lib/comm/exchange/communicator.ts";
import { withCommunicator } from "../../../lib/comm/connect.ts";
import { shardOf } from "../../../lib/comm/exchange/arrays.ts";
import { blockOf } from "../../../lib/comm/exchange/tree.ts";
import { bf16ToF32, f32ToBf16 } from "../../../lib/io/safetensors/half.ts";

const print = (line: string) => void Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

/** Small integers, exact in bfloat16. */
const value = (rank: number, i: number) => (rank + 1) * ((i % 11) + 1);

/** Checks all exchanges; the rank `absent` stays away from the last barrier. */
async function run(absent: number | undefined): Promise<void> {
  await withCommunicator(async (communicator) => {
    const { rank, size } = communicator;
    communicator.endStep();
    const total = (i: number) => size * (size + 1) / 2 * ((i % 11) + 1);
    const same = (data: Float32Array, expected: (i: number) => number, begin = 0, end = data.length) => {
      for (let i = begin; i < end; i++) assert.equal(data[i], expected(i), `element ${i} of rank ${rank}`);
    };
    for (const length of [0, 1, 127, 4099, 200_003]) {
      const { begin, end } = shardOf(length, rank, size);
      const f32 = Float32Array.from({ length }, (_, i) => value(rank, i));
      const bf16 = f32ToBf16(f32) as Uint16Array<ArrayBuffer>;
      for (const data of [f32.slice(), bf16.slice()]) {
        await communicator.allReduce(data);
        same(data instanceof Uint16Array ? bf16ToF32(data) : data, total);
      }
      for (const data of [f32.slice(), bf16.slice()]) {
        const read = () => data instanceof Uint16Array ? bf16ToF32(data) : data;
        await communicator.reduceScatter(data);
        same(read(), total, begin, end);
        await communicator.allGather(data);
        same(read(), total);
      }
      const block = blockOf(8, rank, size);
      const parts = Array.from({ length: block.end - block.begin }, (_, i) => ({
        index: block.begin + i,
        data: Float32Array.from({ length }, (_, j) => 0.1 * (block.begin + i) + j),
      }));
      const into = new Float32Array(length);
      await canonicalSum(communicator, parts, 8, into);
      same(into, (j) => treeOfEight((index) => Math.fround(0.1 * index + j)));
      const word = Uint8Array.from({ length }, (_, i) => rank === size - 1 ? i % 251 : 0);
      await communicator.broadcast(word, size - 1);
      assert.ok(word.every((byte, i) => byte === i % 251));
      assert.equal(await communicator.agree(rank + 5), size + 4);
    }
    if (absent !== undefined) {
      await communicator.barrier();
      if (absent === rank) await new Promise((resolve) => setTimeout(resolve, 600_000));
      await communicator.barrier({ deadline: 5000 });
    }
    print(`rank ${rank} of ${size} by ${communicator.kind}: all exchanges are right`);
  }, { usual: 120_000, firstStep: 600_000 });
}

/** The tree over eight leaves, in float32. */
function treeOfEight(leaf: (index: number) => number): number {
  const sum = (begin: number, count: number): number =>
    count === 1 ? leaf(begin) : Math.fround(sum(begin, count / 2) + sum(begin + count / 2, count / 2));
  return sum(0, 8);
}

if (import.meta.main) {
  try {
    await run(Deno.args[0] === undefined ? undefined : Number(Deno.args[0]));
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    print(error.message);
    Deno.exit(7);
  }
}
