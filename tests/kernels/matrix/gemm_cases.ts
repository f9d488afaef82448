/** Matrix products that tests and benchmarks share, with a float64 reference. */
import type { GemmShape, GemmSpec } from "../../../kernels/matrix/gemm_shape.ts";

/** A named product. */
export interface GemmCase {
  readonly name: string;
  readonly spec: GemmSpec;
  readonly shape: GemmShape;
}

const f32 = { a: "f32", b: "f32", c: "f32" } as const;
const LAYOUTS = ["NN", "NT", "TN"] as const;

/** Edges of every kind: one row, one column group, sizes that no tile divides, several workgroups each way. */
const SHAPES: readonly GemmShape[] = [
  { m: 4, n: 4, k: 4 },
  { m: 8, n: 132, k: 20 },
  { m: 68, n: 76, k: 36 },
  { m: 132, n: 260, k: 8 },
];

/** Rows that are no multiple of 4, which only layouts with untransposed A allow. */
const ODD_ROWS: readonly GemmShape[] = [{ m: 1, n: 12, k: 64 }, { m: 7, n: 64, k: 12 }, { m: 33, n: 36, k: 28 }];

/** Depths that end inside a group of four, which only layout TN allows: there the depth counts rows. */
const ODD_DEPTHS: readonly GemmShape[] = [{ m: 12, n: 20, k: 1 }, { m: 36, n: 44, k: 35 }];

/** Storage of the operands as training uses it: weights and activations narrow, gradients narrow or f32, adapters f32. */
const STORAGE = [
  { layout: "NT", a: "bf16", b: "bf16", c: "bf16", bias: "bf16", activation: "gelu" },
  { layout: "NT", a: "f16", b: "f16", c: "f16", bias: "f32", activation: "silu" },
  { layout: "NT", a: "f32", b: "bf16", c: "f32", bias: "f32" },
  { layout: "NT", a: "f32", b: "f16", c: "f32" },
  { layout: "NN", a: "bf16", b: "bf16", c: "bf16" },
  { layout: "NN", a: "f16", b: "f16", c: "f16", accumulate: true },
  { layout: "NN", a: "f32", b: "bf16", c: "f32", accumulate: true },
  { layout: "TN", a: "bf16", b: "bf16", c: "f32", accumulate: true },
  { layout: "TN", a: "f16", b: "f16", c: "f32", accumulate: true },
  { layout: "TN", a: "bf16", b: "bf16", c: "bf16", accumulate: true },
] as const satisfies readonly GemmSpec[];

function named(spec: GemmSpec, shape: GemmShape): GemmCase {
  const extras = [
    spec.bias && `bias ${spec.bias}`,
    spec.activation,
    spec.accumulate && "accumulate",
    shape.alpha && `alpha ${shape.alpha}`,
  ].filter(Boolean);
  const { layout, a, b, c } = spec;
  return { name: [`${layout} ${a} ${b} ${c}`, ...extras, `${shape.m}x${shape.n}x${shape.k}`].join(" "), spec, shape };
}

/** Every layout at every edge, every storage in use, and the whole epilogue. */
export const gemmCases: readonly GemmCase[] = [
  ...LAYOUTS.flatMap((layout) =>
    [...SHAPES, ...(layout === "TN" ? ODD_DEPTHS : ODD_ROWS)].map((shape) => named({ layout, ...f32 }, shape))
  ),
  ...STORAGE.map((spec) => named(spec, { m: 36, n: 44, k: 24, alpha: 0.5 })),
  named({ layout: "NT", ...f32, bias: "f32", activation: "gelu", accumulate: true }, { m: 5, n: 20, k: 32, alpha: 4 }),
];

/** Each layout at an edge on every side, with several workgroups each way. */
export const edgeCases: readonly GemmCase[] = LAYOUTS.flatMap((layout) => [
  named({ layout, ...f32 }, { m: 132, n: 140, k: layout === "TN" ? 35 : 36 }),
  named({ layout, ...f32 }, { m: 4, n: 4, k: 4 }),
]);

/** C in float64 from the values as stored; `c` and `bias` as the spec asks. */
export function gemmReference(
  { layout, activation, accumulate }: GemmSpec,
  { m, n, k, alpha = 1 }: GemmShape,
  { a, b, c, bias }: { a: Float32Array; b: Float32Array; c: Float32Array; bias?: Float32Array },
): Float64Array {
  const result = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let p = 0; p < k; p++) {
        sum += a[layout === "TN" ? p * m + i : i * k + p]! * b[layout === "NT" ? j * k + p : p * n + j]!;
      }
      let x = alpha * sum + (bias?.[j] ?? 0);
      if (activation === "gelu") x = 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
      if (activation === "silu") x = x / (1 + Math.exp(-x));
      result[i * n + j] = x + (accumulate ? c[i * n + j]! : 0);
    }
  }
  return result;
}
