/**
 * Exchanges that cannot come to their end: a rank that dies between any two of its pieces, and ranks that are in different
 * exchanges. Nobody takes what has arrived so far for a sum.
 */
import assert from "node:assert/strict";
import { shardOf } from "../../../lib/comm/exchange/arrays.ts";
import { type Communicator, PeerError } from "../../../lib/comm/exchange/communicator.ts";
import { createRegion, regionShape } from "../../../lib/comm/shared_memory/region.ts";
import { Control } from "../../../lib/comm/shared_memory/control.ts";
import { joinSharedMemory } from "../../../lib/comm/shared_memory/shared_memory.ts";
import { smallStaging, withRanks } from "./groups.ts";

/** Several pieces of the staging area, and no multiple of one. */
const LENGTH = 3 * smallStaging / 4 + 5;

/** An exchange, and whether what it has left in the rank's array is the whole and right result. */
type Exchange = (communicator: Communicator) => Promise<boolean>;

/** The share of each rank in a sum, and the sum of all three. */
const share = (rank: number) => new Float32Array(LENGTH).fill(1 + rank);
const isSum = (value: number) => value === 6;

const EXCHANGES: Readonly<Record<string, Exchange>> = {
  async allReduce(communicator) {
    const data = share(communicator.rank);
    await communicator.allReduce(data);
    return data.every(isSum);
  },
  async reduceScatter(communicator) {
    const data = share(communicator.rank), { begin, end } = shardOf(LENGTH, communicator.rank, communicator.size);
    await communicator.reduceScatter(data);
    return data.subarray(begin, end).every(isSum);
  },
  async allGather(communicator) {
    const data = new Float32Array(LENGTH), { begin, end } = shardOf(LENGTH, communicator.rank, communicator.size);
    data.fill(6, begin, end);
    await communicator.allGather(data);
    return data.every(isSum);
  },
  async broadcast(communicator) {
    const data = share(communicator.rank);
    await communicator.broadcast(data, 1);
    return data.every((value) => value === 2);
  },
};

/** Runs an exchange on three ranks of which the second ends before it publishes its piece `at`; what each rank made of it. */
async function cutOff(exchange: Exchange, at: number): Promise<PromiseSettledResult<boolean>[]> {
  const publish = Control.prototype.setCounter;
  let pieces = 0;
  Control.prototype.setCounter = function (rank, value) {
    if (rank === 1 && pieces++ === at) throw new Error("the power went");
    publish.call(this, rank, value);
  };
  try {
    return await withRanks(3, async (communicator) => (await Promise.allSettled([exchange(communicator)]))[0]);
  } finally {
    Control.prototype.setCounter = publish;
  }
}

for (const [name, exchange] of Object.entries(EXCHANGES)) {
  Deno.test(`${name}: whichever piece a rank dies at, no other rank takes half of a result for the whole`, async () => {
    let pieces = 0, refusals = 0;
    for (;; pieces++) {
      const ends = await cutOff(exchange, pieces);
      if (ends[1]!.status === "fulfilled") break;
      for (const [rank, end] of ends.entries()) {
        const says = `rank ${rank}, piece ${pieces}: ${Deno.inspect(end)}`;
        // Who needs no further piece is done, and hears of the death in the next exchange.
        if (end.status === "fulfilled") assert.ok(end.value, says);
        else if (rank === 1) assert.equal(end.reason.message, "the power went");
        else assert.ok(end.reason instanceof PeerError && end.reason.culprit === 1, says);
        if (rank !== 1 && end.status === "rejected") refusals++;
      }
    }
    assert.ok(pieces >= 3 && refusals >= pieces, `${pieces} pieces, ${refusals} refusals`);
  });
}

Deno.test("ranks in exchanges of another kind, type, order or count are named with both of them", async () => {
  const floats = () => new Float32Array(8), halves = () => new Uint16Array(16);
  type Call = (communicator: Communicator) => Promise<void>;
  const pairs: Readonly<Record<string, readonly [Call, Call, RegExp]>> = {
    kind: [
      (communicator) => communicator.allReduce(floats()),
      (communicator) => communicator.allGather(floats()),
      /allReduce number 0 of 32 bytes .*allGather number 0 of 32|allGather number 0 of 32 bytes .*allReduce number 0 of 32/,
    ],
    type: [
      (communicator) => communicator.allReduce(floats()),
      (communicator) => communicator.allReduce(halves()),
      /number 0 of 32 bytes \(variant \d+\), rank \d in allReduce number 0 of 32 bytes \(variant \d+\)/,
    ],
    root: [
      (communicator) => communicator.broadcast(floats(), 0),
      (communicator) => communicator.broadcast(floats(), 1),
      /broadcast number 0 of 32 bytes \(variant 1\).*variant 2|variant 2.*variant 1/,
    ],
    order: [
      async (communicator) => {
        await communicator.allReduce(floats());
        await communicator.broadcast(floats(), 0);
      },
      async (communicator) => {
        await communicator.broadcast(floats(), 0);
        await communicator.allReduce(floats());
      },
      /allReduce number 0 .*broadcast number 0|broadcast number 0 .*allReduce number 0/,
    ],
  };
  for (const [name, [one, other, says]] of Object.entries(pairs)) {
    const outcomes = await withRanks(
      2,
      (communicator) => (communicator.rank === 0 ? one : other)(communicator).then(() => "done", String),
    );
    assert.ok(outcomes.every((text) => text !== "done"), `${name}: ${outcomes}`);
    assert.ok(outcomes.some((text) => says.test(text)), `${name}: ${outcomes}`);
  }
});

Deno.test("a rank that validates or encodes is waited for beyond the usual deadline, as far as the phase says", async () => {
  const shape = regionShape(2, smallStaging, 2 ** 20);
  using region = createRegion(shape);
  const deadlines = { usual: 100, firstStep: 100 };
  const [first, second] = [0, 1].map((rank) => joinSharedMemory({ path: region.path, shape, rank, deadlines }));
  for (const rank of [first!, second!]) rank.endStep();
  const met = first!.barrier({ deadline: 60_000 });
  await new Promise((resolve) => setTimeout(resolve, 500));
  await Promise.all([met, second!.barrier({ deadline: 60_000 })]);
  await assert.rejects(first!.barrier(), /rank 1 made no progress for 100 ms/);
});
