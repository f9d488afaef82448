/** A whole canonical sum in one call, as tests compare it. */
import { CanonicalSum } from "../../../lib/comm/exchange/canonical.ts";
import type { Communicator, ExchangeOptions } from "../../../lib/comm/exchange/communicator.ts";

/** One micro-batch's gradients. */
interface CanonicalPart {
  /** Number of the micro-batch in the optimizer step, over all ranks. */
  readonly index: number;
  readonly data: Float32Array<ArrayBuffer>;
}

/**
 * Sums `total` micro-batches, of which this rank has `parts` (those of its {@linkcode blockOf}, in any order), into `into`.
 * The arrays of `parts` are left as they are.
 */
export async function canonicalSum(
  communicator: Communicator,
  parts: readonly CanonicalPart[],
  total: number,
  into: Float32Array<ArrayBuffer>,
  options: ExchangeOptions & { readonly scatter?: boolean } = {},
): Promise<void> {
  const sum = new CanonicalSum(communicator, into.length, () => new Float32Array(into.length));
  sum.begin(total);
  const ordered = parts.toSorted((a, b) => a.index - b.index);
  ordered.forEach(({ index, data }, place) => {
    const expected = sum.block.begin + place;
    if (index !== expected) throw new RangeError(`Cannot sum micro-batch ${index}: expected ${expected} on this rank`);
    sum.next().set(data);
    sum.push();
  });
  await sum.reduce(into, options);
}
