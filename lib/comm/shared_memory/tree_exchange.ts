/** The sum over a tree of micro-batches (see tree.ts) between slots of a region. */
import type { Adder } from "../exchange/adder.ts";
import { bytesOfData, shardOf } from "../exchange/arrays.ts";
import { slotOffset } from "./region.ts";
import type { Ring } from "./ring.ts";
import { rankNodes, type TreeNode, treeSums } from "../exchange/tree.ts";

/** Pieces of nodes begin at multiples of this, so that ranks that sum side by side share no cache line. */
const ALIGNMENT = 256;

/**
 * Sums nodes of all ranks into `into`: every rank puts its nodes into its staging area, sums its shard of them over all
 * areas in the order of the tree, and copies the shards of the others. Large arrays go a piece of every shard at a
 * time.
 */
export async function reduceStagedTree(
  ring: Ring,
  adder: Adder,
  nodes: readonly TreeNode[],
  total: number,
  into: Float32Array<ArrayBuffer>,
  scatter: boolean,
): Promise<void> {
  const { rank, size, region: { shape, buffer } } = ring;
  const ranks = Array.from({ length: size }, (_, other) => other);
  const owners = ranks.map((other) => rankNodes(total, other, size));
  const places = owners.flatMap((ranges, owner) => ranges.map((range, place) => ({ ...range, owner, place })));
  const most = Math.max(...owners.map(({ length }) => length));
  const piece = Math.floor(shape.staging / (size * most) / ALIGNMENT) * ALIGNMENT;
  if (piece === 0) {
    throw new RangeError(`Cannot sum ${most} nodes of ${size} ranks in a staging area of ${shape.staging} bytes`);
  }
  const shards = ranks.map((other) => shardOf(into.length, other, size)).map(({ begin, end }) => ({
    begin: 4 * begin,
    end: 4 * end,
  }));
  const sums = treeSums(places, total);
  const offsetOf = ({ owner, place }: { owner: number; place: number }, shard: number) =>
    slotOffset(shape, owner) + (place * size + shard) * piece;
  const shared = new Uint8Array(buffer);
  const inputs = nodes.map(({ data }) => bytesOfData(data));
  const output = bytesOfData(into);
  const largest = Math.max(...shards.map(({ begin, end }) => end - begin));
  for (let at = 0; at === 0 || at < largest; at += piece) {
    const pieces = shards.map(({ begin, end }) => {
      const first = Math.min(end, begin + at);
      return { first, last: Math.min(end, first + piece) };
    });
    inputs.forEach((input, place) =>
      pieces.forEach(({ first, last }, shard) => {
        shared.set(input.subarray(first, last), offsetOf({ owner: rank, place }, shard));
      })
    );
    if (at === 0) await ring.meet();
    else {
      ring.start();
      await ring.reachAll(1);
    }
    const own = pieces[rank]!;
    for (const sum of sums) {
      adder.add("f32", offsetOf(places[sum.into]!, rank), offsetOf(places[sum.from]!, rank), own.last - own.first);
    }
    ring.moved += places.filter(({ owner }) => owner !== rank).length * (own.last - own.first);
    ring.advance();
    for (let step = 0; step < size; step++) {
      const shard = (rank + step) % size;
      if (step > 0) await ring.reach(shard, 2);
      if (scatter && step > 0) continue;
      const { first, last } = pieces[shard]!;
      const offset = offsetOf(places[0]!, shard);
      output.set(shared.subarray(offset, offset + last - first), first);
      if (step > 0) ring.moved += last - first;
    }
    ring.advance();
    await ring.reachAll(3);
  }
}
