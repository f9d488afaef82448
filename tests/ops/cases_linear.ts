/** Linear layers, with bias, adapter and shapes whose depth is divided. */
import type { DType } from "../../kernels/core/kernel.ts";
import { rowNorms, scaleByMagnitude } from "../../lib/ops/dora.ts";
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

/** Norms of the rows of W + s B A, in float64. */
function normsReference(weight: Float64Array, down: Float64Array, up: Float64Array, k: number, scale: number) {
  const rank = down.length / k;
  return Float64Array.from({ length: weight.length / k }, (_, o) => {
    let square = 0;
    for (let i = 0; i < k; i++) {
      let value = weight[o * k + i]!;
      for (let r = 0; r < rank; r++) value += scale * up[o * rank + r]! * down[r * k + i]!;
      square += value * value;
    }
    return Math.sqrt(square);
  });
}

/** What the rows of an adapted weight are divided by. */
function norms(k: number, n: number, dtype: DType): OpCase {
  const scale = 0.7;
  return opCase({
    name: `norms of adapted rows ${dtype} [${n}, ${k}]`,
    operands: {
      weight: { shape: [n, k], role: "constant", dtype },
      down: { shape: [8, k], role: "constant" },
      up: { shape: [n, 8], role: "constant" },
    },
    record: (plan, { weight, down, up }) =>
      rowNorms(plan, weight, { down, up, scale }, plan.transient("norms", [n], "f32")),
    reference: ({ weight, down, up }) => normsReference(weight, down, up, k, scale),
  });
}

/** Columns scaled by trained magnitudes over constant norms, every `zeros`-th of which is 0. */
function magnitudes({ rows, n, dtype = "f32" }: Omit<LinearShape, "k">, zeros = Infinity): OpCase {
  return opCase({
    name: `magnitudes ${dtype} [${rows}, ${n}]${zeros < Infinity ? " of rows of which some are zero" : ""}`,
    operands: {
      u: { shape: [...rows, n], role: "input", dtype, shared: "never" },
      magnitude: { shape: [n], role: "parameter" },
      norms: { shape: [n], role: "constant", values: (v, i) => i % zeros === 1 ? 0 : v + 1 },
      bias: { shape: [n], role: "constant" },
    },
    record: (plan, { u, magnitude, norms, bias }) =>
      scaleByMagnitude(plan, u, { magnitude, norms, bias }, plan.transient("y", u.shape, dtype, [u, magnitude])),
    reference: ({ u, magnitude, norms, bias }) =>
      u.map((value, i) => value * (norms[i % n] === 0 ? 1 : magnitude[i % n]! / norms[i % n]!) + bias[i % n]!),
  });
}

/**
 * A whole DoRA layer, forward: its backward takes the norms for constants, which no difference of its definition does.
 * Every `zeros`-th row of W and B is zero.
 */
function decomposed(k: number, n: number, zeros = Infinity): OpCase {
  const scale = 0.7;
  return opCase({
    name: `linear f32 [5, ${k}] -> ${n} with a decomposed adapter${zeros < Infinity ? " and rows of zeros" : ""}`,
    operands: {
      x: { shape: [5, k], role: "constant" },
      weight: { shape: [n, k], role: "constant", values: (v, i) => Math.floor(i / k) % zeros === 1 ? 0 : v },
      bias: { shape: [n], role: "constant" },
      down: { shape: [4, k], role: "constant" },
      up: { shape: [n, 4], role: "constant", values: (v, i) => Math.floor(i / 4) % zeros === 1 ? 0 : v },
      magnitude: { shape: [n], role: "constant" },
    },
    record: (plan, { x, weight, bias, down, up, magnitude }) =>
      linear(plan, x, { weight, bias, adapter: { down, up, scale, magnitude } }),
    reference: ({ x, weight, bias, down, up, magnitude }) => {
      const lengths = normsReference(weight, down, up, k, scale);
      const update = linearReference(linearReference(x, down, undefined, k), up, undefined, 4);
      return linearReference(x, weight, undefined, k).map((value, i) => {
        const length = lengths[i % n]!;
        return (length === 0 ? 0 : (value + scale * update[i]!) * magnitude[i % n]! / length) + bias[i % n]!;
      });
    },
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
  norms(36, 20, "f32"),
  norms(516, 8, "bf16"),
  magnitudes({ rows: [2, 5], n: 20 }),
  magnitudes({ rows: [67], n: 8 }),
  magnitudes({ rows: [9], n: 12, dtype: "bf16" }),
  magnitudes({ rows: [67], n: 12 }, 3),
  decomposed(36, 20),
  decomposed(36, 20, 5),
  adapted({ rows: [2, 5], k: 12, n: 20, dtype: "bf16" }, 0.4),
];
