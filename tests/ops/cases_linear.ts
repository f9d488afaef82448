/** Linear layers, with bias, adapter and shapes whose depth is divided. */
import type { DType } from "../../kernels/core/kernel.ts";
import { linear } from "../../lib/ops/linear.ts";
import { type OpCase, opCase, type Operand } from "./op_case.ts";
import { Tensor } from "../../lib/plan/tensor.ts";
import { dropMask } from "../kernels/rows/drop_mask.ts";
import { linearReference } from "./reference.ts";

interface LinearShape {
  readonly rows: readonly number[];
  readonly k: number;
  readonly n: number;
  readonly dtype?: DType;
  /** Storage of the result, when not that of the input. */
  readonly out?: DType;
}

const product = (shape: readonly number[]) => shape.reduce((a, b) => a * b);

function plain({ rows, k, n, dtype = "f32", out = dtype }: LinearShape, bias: boolean): OpCase {
  const x: Operand = { shape: [...rows, k], role: "input", dtype };
  const weight: Operand = { shape: [n, k], role: "parameter", dtype };
  const name = `linear ${dtype}${out === dtype ? "" : ` to ${out}`} [${rows}, ${k}] -> ${n}`;
  const flops = 2 * product(rows) * k * n;
  if (!bias) {
    return opCase({
      name,
      operands: { x, weight },
      record: (plan, { x, weight }) => linear(plan, x, { weight }, out),
      reference: ({ x, weight }) => linearReference(x, weight, undefined, k),
      flops,
    });
  }
  return opCase({
    name: `${name} with bias`,
    operands: { x, weight, bias: { shape: [n], role: "parameter" } },
    record: (plan, { x, weight, bias }) => linear(plan, x, { weight, bias }, out),
    reference: ({ x, weight, bias }) => linearReference(x, weight, bias, k),
    flops,
  });
}

/** A frozen layer with a trained update of rank 3, stored as rank 4; `rate` of its input is dropped. */
function adapted({ rows, k, n, dtype = "f32" }: LinearShape, rate = 0): OpCase {
  const [stored, rank, scale] = [4, 3, 0.7];
  // Nobody writes the key, so its words are zero.
  const key = new Tensor("key", [4], "u32", { resident: true });
  const dropout = rate === 0 ? {} : { dropout: { rate, key, layer: 2 } };
  const keep = dropMask(product(rows) * k, { first: 0, layer: 2, rate }, [0, 0]);
  return opCase({
    name: `linear ${dtype} [${rows}, ${k}] -> ${n} with an adapter of rank ${rank}${
      rate === 0 ? "" : " behind dropout"
    }`,
    operands: {
      x: { shape: [...rows, k], role: "input", dtype },
      weight: { shape: [n, k], role: "constant", dtype },
      bias: { shape: [n], role: "constant" },
      down: { shape: [stored, k], role: "parameter", values: (v, i) => i < rank * k ? v : 0 },
      up: { shape: [n, stored], role: "parameter", values: (v, i) => i % stored < rank ? v : 0 },
    },
    record: (plan, { x, weight, bias, down, up }) =>
      linear(plan, x, { weight, bias, adapter: { down, up, scale, ...dropout } }),
    reference: ({ x, weight, bias, down, up }) => {
      const dropped = x.map((value, i) => keep[i]! ? value / (1 - rate) : 0);
      const update = linearReference(linearReference(dropped, down, undefined, k), up, undefined, stored);
      return linearReference(x, weight, bias, k).map((value, i) => value + scale * update[i]!);
    },
    flops: 2 * product(rows) * (k * n + stored * (k + n)),
  });
}

export const linearCases: readonly OpCase[] = [
  plain({ rows: [5], k: 12, n: 8 }, false),
  plain({ rows: [2, 7], k: 20, n: 36 }, true),
  plain({ rows: [1], k: 64, n: 4 }, true),
  // Deep in the forward, then deep in the gradient of the weights.
  plain({ rows: [3], k: 1036, n: 12 }, true),
  plain({ rows: [2, 531], k: 8, n: 4 }, true),
  plain({ rows: [2, 7], k: 20, n: 36, dtype: "bf16" }, true),
  plain({ rows: [2, 7], k: 20, n: 36, dtype: "f16" }, true),
  plain({ rows: [9], k: 36, n: 20, dtype: "bf16", out: "f32" }, false),
  plain({ rows: [3], k: 1036, n: 12, dtype: "bf16" }, true),
  adapted({ rows: [2, 5], k: 12, n: 20 }),
  adapted({ rows: [67], k: 36, n: 8 }),
  adapted({ rows: [2, 5], k: 12, n: 20, dtype: "bf16" }),
  adapted({ rows: [67], k: 36, n: 8 }, 0.4),
  adapted({ rows: [2, 5], k: 12, n: 20, dtype: "bf16" }, 0.4),
];
