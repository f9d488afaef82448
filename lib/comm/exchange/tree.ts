/**
 * The fixed binary tree over the micro-batches of an optimizer step. A node covers the micro-batches begin to end - 1;
 * its left child covers the largest power of two that is less than its count, its right child the rest. Ranks work on
 * contiguous blocks, and when ranks and micro-batches per rank are powers of two, a block is one node: what a rank sums
 * alone, and what it sums with others, follow the same tree, so the bits don't depend on the number of ranks.
 */
import type { ElementRange } from "./arrays.ts";

/** A node with the sum of its micro-batches. */
export interface TreeNode extends ElementRange {
  readonly data: Float32Array<ArrayBuffer>;
}

/** One addition of the tree: the sum of node `from` goes into node `into`. Both are places in a list of nodes. */
export interface TreeSum {
  readonly into: number;
  readonly from: number;
}

/** The micro-batches, of `total` in an optimizer step, that `rank` of `size` works on. */
export function blockOf(total: number, rank: number, size: number): ElementRange {
  return { begin: Math.floor((total * rank) / size), end: Math.floor((total * (rank + 1)) / size) };
}

/** End of the left child of a node of at least two micro-batches. */
function split({ begin, end }: ElementRange): number {
  return begin + 2 ** (Math.ceil(Math.log2(end - begin)) - 1);
}

/** The fewest nodes of the tree over `total` micro-batches that cover `block`, from left to right. */
export function nodesOf(block: ElementRange, total: number): ElementRange[] {
  const cover = (node: ElementRange): ElementRange[] => {
    if (node.begin >= block.end || node.end <= block.begin) return [];
    if (block.begin <= node.begin && node.end <= block.end) return [node];
    const middle = split(node);
    return [...cover({ begin: node.begin, end: middle }), ...cover({ begin: middle, end: node.end })];
  };
  return block.begin < block.end ? cover({ begin: 0, end: total }) : [];
}

/** The nodes that `rank` of `size` has after adding up its own micro-batches. */
export function rankNodes(total: number, rank: number, size: number): ElementRange[] {
  return nodesOf(blockOf(total, rank, size), total);
}

/**
 * The additions that turn `nodes`, which cover the whole tree from left to right, into its root, in order. The root
 * ends up in the place of the first node.
 */
export function treeSums(nodes: readonly ElementRange[], total: number): TreeSum[] {
  const places = new Map(nodes.map(({ begin, end }, place) => [`${begin} ${end}`, place]));
  const sums: TreeSum[] = [];
  const place = (node: ElementRange): number => {
    const known = places.get(`${node.begin} ${node.end}`);
    if (known !== undefined) return known;
    if (node.end - node.begin < 2) throw new RangeError(`Cannot sum the tree: micro-batch ${node.begin} is missing`);
    const middle = split(node);
    const into = place({ begin: node.begin, end: middle });
    const from = place({ begin: middle, end: node.end });
    sums.push({ into, from });
    return into;
  };
  place({ begin: 0, end: total });
  return sums;
}

/** Throws RangeError unless `nodes` are what `rank` of `size` contributes, each as long as the result. */
export function checkNodes(
  nodes: readonly TreeNode[],
  total: number,
  rank: number,
  size: number,
  length: number,
): void {
  const show = (ranges: readonly ElementRange[]) =>
    ranges.map(({ begin, end }) => `${begin} to ${end - 1}`).join(", ") || "none";
  const expected = rankNodes(total, rank, size);
  if (show(nodes) !== show(expected)) {
    throw new RangeError(
      `Cannot sum ${total} micro-batches over ${size} ranks: rank ${rank} has the sums of ${show(nodes)}, ` +
        `expected ${show(expected)}`,
    );
  }
  const wrong = nodes.find(({ data }) => data.length !== length);
  if (wrong !== undefined) {
    throw new RangeError(`Cannot sum arrays of ${wrong.data.length} values into one of ${length}`);
  }
}
