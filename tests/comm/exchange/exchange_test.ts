import assert from "node:assert/strict";
import { SHARD_ELEMENTS, shardOf } from "../../../lib/comm/exchange/arrays.ts";
import { bf16ToF32, f32ToBf16 } from "../../../lib/io/safetensors/half.ts";
import { smallStaging, withRanks } from "./groups.ts";

const sizes = [1, 2, 3, 4];
/** Nothing, one, around a vector, around a shard, and beyond the staging area. */
const lengths = [0, 1, 15, 17, 127, 129, 1001, smallStaging / 4 + 1, 100_003];

/** Integers whose sums stay below 256, so that they are exact in bfloat16 too, whatever the order. */
const value = (rank: number, i: number) => (rank + 1) * ((i % 25) + 1);
const total = (size: number, i: number) => size * (size + 1) / 2 * ((i % 25) + 1);
const fill = <T extends Float32Array | Uint16Array>(data: T, rank: number): T => {
  const values = Float32Array.from(data, (_, i) => value(rank, i));
  if (data instanceof Uint16Array) f32ToBf16(values, data);
  else data.set(values);
  return data;
};
const read = (data: Float32Array | Uint16Array) => data instanceof Uint16Array ? bf16ToF32(data) : data;
const kinds = [
  { name: "f32 private", make: (_: unknown, length: number) => new Float32Array(length) },
  { name: "bf16 private", make: (_: unknown, length: number) => new Uint16Array(length) },
] as const;

function assertValues(
  found: Float32Array | Uint16Array,
  expected: (i: number) => number,
  where: string,
  begin = 0,
  end = found.length,
): void {
  const values = read(found);
  for (let i = begin; i < end; i++) {
    if (values[i] !== expected(i)) assert.fail(`${where}: element ${i} is ${values[i]}, expected ${expected(i)}`);
  }
}

Deno.test("shardOf: shards are aligned, in order, and cover the array", () => {
  for (const size of [1, 2, 3, 8]) {
    for (const length of [0, 1, 128, 1000, 4097]) {
      let at = 0;
      for (let rank = 0; rank < size; rank++) {
        const { begin, end } = shardOf(length, rank, size);
        assert.equal(begin, at);
        assert.ok(begin % SHARD_ELEMENTS === 0 || begin === length);
        at = end;
      }
      assert.equal(at, length);
    }
  }
});

for (const size of sizes) {
  Deno.test(`allReduce, reduceScatter, allGather of ${size} ranks: every element of every length`, async () => {
    await withRanks(size, async (communicator) => {
      const { rank } = communicator;
      for (const { name, make } of kinds) {
        for (const length of lengths) {
          const where = `${name} of ${length}, rank ${rank} of ${size}`;
          const all = fill(make(communicator, length), rank);
          await communicator.allReduce(all);
          assertValues(all, (i) => total(size, i), `allReduce ${where}`);
          const scattered = fill(make(communicator, length), rank);
          await communicator.reduceScatter(scattered);
          const { begin, end } = shardOf(length, rank, size);
          assertValues(scattered, (i) => total(size, i), `reduceScatter ${where}`, begin, end);
          await communicator.allGather(scattered);
          assertValues(scattered, (i) => total(size, i), `allGather ${where}`);
        }
      }
    });
  });
}

Deno.test("arrays from allocate are exchanged in place, views of them without touching their neighbours", async () => {
  await withRanks(3, async (communicator) => {
    const { rank } = communicator;
    for (const type of ["f32", "bf16"] as const) {
      for (const [begin, end] of [[0, 5000], [7, 1234], [4999, 5000], [128, 128]] as const) {
        const data = communicator.allocate(type, 5000);
        fill(data, rank);
        await communicator.allReduce(data.subarray(begin, end));
        assertValues(
          data,
          (i) => i >= begin && i < end ? total(3, i) : value(rank, i),
          `${type} ${begin} to ${end}, rank ${rank}`,
        );
      }
    }
  });
});

Deno.test("an arena that is full gives private memory, and exchanges go on", async () => {
  await withRanks(2, async (communicator) => {
    for (let round = 0; round < 4; round++) {
      const data = fill(communicator.allocate("f32", 100_000), communicator.rank);
      await communicator.allReduce(data);
      assertValues(data, (i) => total(2, i), `round ${round}`);
    }
  });
});

Deno.test("broadcast: from any rank, any length and type", async () => {
  await withRanks(3, async (communicator) => {
    for (let root = 0; root < 3; root++) {
      for (const length of [0, 1, 1001, 300_001]) {
        const bytes = Uint8Array.from({ length }, (_, i) => communicator.rank === root ? (i * 7 + root) % 251 : 0);
        await communicator.broadcast(bytes, root);
        assert.ok(bytes.every((byte, i) => byte === (i * 7 + root) % 251));
      }
    }
  });
});

Deno.test("agree: the largest value, in every one of many quick rounds mixed with broadcasts", async () => {
  await withRanks(3, async (communicator) => {
    for (let round = 0; round < 200; round++) {
      assert.equal(await communicator.agree(round * 3 + (communicator.rank + round) % 3), round * 3 + 2);
      const word = new Uint8Array([communicator.rank === round % 3 ? round : 0]);
      await communicator.broadcast(word, round % 3);
      assert.equal(word[0], round);
    }
  });
});

Deno.test("all ranks get the same bits, and the arithmetic twins too", async () => {
  const random = (rank: number, i: number) =>
    Math.fround(Math.sin(1 + i * 12.9898 + rank * 78.233) * 10 ** (i % 7 - 3));
  for (const size of [2, 3, 4]) {
    const bits = async (adder: "wasm" | "script") =>
      (await withRanks(size, async (communicator) => {
        const f32 = Float32Array.from({ length: 40_007 }, (_, i) => random(communicator.rank, i));
        const bf16 = f32ToBf16(f32) as Uint16Array<ArrayBuffer>;
        await communicator.allReduce(f32);
        await communicator.allReduce(bf16);
        return [...new Uint32Array(f32.buffer), ...bf16];
      }, { adder })).map((words) => words.join(" "));
    const all = [...await bits("wasm"), ...await bits("script")];
    assert.equal(new Set(all).size, 1);
  }
});

Deno.test("float32 sums are within rounding of float64 sums, bfloat16 within one rounding per hop", async () => {
  const size = 4;
  const random = (rank: number, i: number) => Math.sin(1 + i * 12.9898 + rank * 78.233);
  const length = 10_001;
  await withRanks(size, async (communicator) => {
    const f32 = Float32Array.from({ length }, (_, i) => random(communicator.rank, i));
    const bf16 = f32ToBf16(f32) as Uint16Array<ArrayBuffer>;
    await communicator.allReduce(f32);
    await communicator.allReduce(bf16);
    const rounded = bf16ToF32(bf16);
    for (let i = 0; i < length; i++) {
      let sum = 0;
      for (let rank = 0; rank < size; rank++) sum += random(rank, i);
      // Inputs and the three partial sums are at most 4 in size; an error of half a unit in the last place each.
      assert.ok(Math.abs(f32[i]! - sum) <= 4 * 4 * 2 ** -24);
      assert.ok(Math.abs(rounded[i]! - sum) <= 4 * 2 ** -9 + 3 * 4 * 2 ** -9);
    }
  });
});

Deno.test("ranks that make different calls are both named", async () => {
  const outcomes = await withRanks(3, async (communicator) => {
    const data = new Float32Array(communicator.rank === 1 ? 11 : 10);
    return await communicator.allReduce(data).then(() => "done", String);
  });
  assert.ok(outcomes.some((text) => /allReduce number 0 of 40 bytes .* rank 1 in allReduce number 0 of 44/.test(text)));
  assert.ok(outcomes.every((text) => text !== "done"));
});

Deno.test("wrong arguments are refused before the ranks meet", async () => {
  await withRanks(1, async (communicator) => {
    await assert.rejects(communicator.allReduce(new Uint8Array(3)), TypeError);
    await assert.rejects(
      communicator.allGather(new Float64Array(3) as unknown as Float32Array<ArrayBuffer>),
      TypeError,
    );
    await assert.rejects(communicator.broadcast(new Uint8Array(3), 1), RangeError);
    await assert.rejects(communicator.agree(-1), RangeError);
    assert.throws(() => communicator.add(new Float32Array(2), new Float32Array(3)), RangeError);
  });
});
