/** The communicator of a run with one process: every exchange is with itself. */
import { addArrays } from "./adder.ts";
import type { Communicator } from "./communicator.ts";
import { type Data, dataType, elementBytes, sumType, viewData } from "./arrays.ts";
import { checkNodes, treeSums } from "./tree.ts";

/** A group of one rank. */
export function createSingle(): Communicator {
  return {
    kind: "single",
    rank: 0,
    size: 1,
    waited: 0,
    allocate: (type, length) => viewData(type, new ArrayBuffer(length * elementBytes[type]), 0, length),
    add(into, from) {
      sumType(into);
      addArrays(into as Float32Array, from as Float32Array);
    },
    allReduce: async (data) => void await sumType(data),
    reduceScatter: async (data) => void await sumType(data),
    allGather: async (data) => void await dataType(data),
    broadcast: async (data, root) => await checkRoot(data, root, 1),
    // deno-lint-ignore require-await -- a wrong call must reject as it does with several ranks
    async reduceTree(nodes, total, into) {
      checkNodes(nodes, total, 0, 1, into.length);
      for (const sum of treeSums(nodes, total)) addArrays(nodes[sum.into]!.data, nodes[sum.from]!.data);
      into.set(nodes[0]!.data);
    },
    barrier: () => Promise.resolve(),
    agree: (value) => Promise.resolve(value),
    endStep() {},
    abort() {},
    leave: () => Promise.resolve(),
  };
}

/** Throws RangeError for a rank that does not exist, TypeError for what is no {@linkcode Data}. */
export function checkRoot(data: Data, root: number, size: number): void {
  dataType(data);
  if (!Number.isInteger(root) || root < 0 || root >= size) {
    throw new RangeError(`Cannot broadcast from rank ${root}: ranks are 0 to ${size - 1}`);
  }
}
