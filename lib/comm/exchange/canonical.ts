/** Sums of micro-batch gradients that have the same bits for 1, 2 and 4 ranks. */
import type { Communicator, ExchangeOptions } from "./communicator.ts";
import type { ElementRange } from "./arrays.ts";
import { blockOf, nodesOf, type TreeNode } from "./tree.ts";

/**
 * Adds up the micro-batches of one optimizer step after another. A rank pushes the gradients of its block in order;
 * sums of finished subtrees are kept, so memory is one array per level of the tree and not one per micro-batch.
 *
 * ```ts ignore
 * const sum = new CanonicalSum(communicator, gradients);
 * sum.begin(total);
 * for (let index = sum.block.begin; index < sum.block.end; index++) {
 *   readGradients(index, sum.next()); // fills the array
 *   sum.push();
 * }
 * await sum.reduce(result);
 * ```
 */
export class CanonicalSum {
  readonly #communicator: Communicator;
  readonly #allocate: () => Float32Array<ArrayBuffer>;
  /** Arrays that no sum lives in. */
  readonly #free: Float32Array<ArrayBuffer>[] = [];
  #nodes: TreeNode[] = [];
  #total = 1;
  #index = 0;
  #block: ElementRange = { begin: 0, end: 0 };
  #pending: Float32Array<ArrayBuffer> | undefined;

  #arrays = 0;

  /** Sums arrays of `length` float32 values over the ranks of `communicator`. */
  constructor(
    communicator: Communicator,
    length: number,
    allocate: () => Float32Array<ArrayBuffer> = () => communicator.allocate("f32", length),
  ) {
    this.#communicator = communicator;
    this.#allocate = allocate;
  }

  /** The micro-batches of the step that this rank works on; may be empty when there are fewer than ranks. */
  get block(): ElementRange {
    return this.#block;
  }

  /** Starts an optimizer step of `total` micro-batches over all ranks. */
  begin(total: number): void {
    if (!Number.isSafeInteger(total) || total < 1) {
      throw new RangeError(`Cannot sum ${total} micro-batches: expected a positive integer`);
    }
    this.#free.push(...this.#nodes.map(({ data }) => data));
    this.#nodes = [];
    this.#total = total;
    this.#block = blockOf(total, this.#communicator.rank, this.#communicator.size);
    this.#index = this.#block.begin;
    const needed = arraysNeeded(total, this.#communicator.size);
    for (; this.#arrays < needed; this.#arrays++) this.#free.push(this.#allocate());
  }

  /** The array to fill with the gradients of the next micro-batch; its content is whatever was there before. */
  next(): Float32Array<ArrayBuffer> {
    return this.#pending ??= this.#free.pop()!;
  }

  /** Adds the array that {@linkcode next} gave. Throws RangeError past the end of the rank's block. */
  push(): void {
    const index = this.#index;
    if (index >= this.#block.end) {
      throw new RangeError(`Cannot add micro-batch ${index}: this rank's block ends at ${this.#block.end - 1}`);
    }
    this.#nodes.push({ begin: index, end: index + 1, data: this.next() });
    this.#pending = undefined;
    this.#index++;
    for (;;) {
      const [left, right] = this.#nodes.slice(-2);
      if (left === undefined || right === undefined) return;
      const parent = { begin: left.begin, end: right.end };
      // Two neighbours merge only where the tree has a node of exactly both.
      if (nodesOf(parent, this.#total).length > 1) return;
      this.#communicator.add(left.data, right.data);
      this.#nodes.splice(-2, 2, { ...parent, data: left.data });
      this.#free.push(right.data);
    }
  }

  /**
   * Writes the sum over all micro-batches of all ranks to `into`; with `scatter` only this rank's shard of it. Throws
   * RangeError while micro-batches of the rank's block are missing.
   */
  async reduce(
    into: Float32Array<ArrayBuffer>,
    options: ExchangeOptions & { readonly scatter?: boolean } = {},
  ): Promise<void> {
    await this.#communicator.reduceTree(this.#nodes, this.#total, into, options);
  }
}

/** Arrays that the rank with most to keep needs; every rank allocates as many, so that their memories stay alike. */
function arraysNeeded(total: number, size: number): number {
  let most = 1;
  for (let rank = 0; rank < size; rank++) {
    const { begin, end } = blockOf(total, rank, size);
    for (let next = begin; next < end; next++) most = Math.max(most, nodesOf({ begin, end: next }, total).length + 1);
  }
  return most;
}
