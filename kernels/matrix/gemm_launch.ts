/**
 * What all ways to multiply have in common: parameters, bindings, what happens to a finished sum, and parts of the
 * depth whose products are summed afterwards.
 */
import {
  type BufferSpec,
  type DType,
  foldGrid,
  type Launch,
  type NamedLaunch,
  THREADS,
  type Work,
} from "../core/kernel.ts";
import { unitOperand } from "../core/units.ts";
import { buildKernel } from "../core/wgsl.ts";
import type { Extent, GemmShape, GemmSpec } from "./gemm_shape.ts";

/** The text of one way to multiply. */
export interface GemmText {
  readonly name: string;
  /** Fields that decide the text besides those of {@linkcode GemmSpec}. */
  readonly tile: Readonly<Record<string, string | number | boolean>>;
  readonly workgroupSize: number;
  /** Whether the body uses `lane`. */
  readonly lane?: boolean;
  /** Whether the body uses matrix units: then `subgroup_id` is in scope, and loads give operands of f16 as f16. */
  readonly units?: boolean;
  /** Rows and columns of C that a workgroup owns. */
  readonly rows: number;
  readonly columns: number;
  readonly declarations?: () => string;
  /**
   * Finds the workgroup's tile among `params.tiles` of `params.parts` parts of the depth, and hands every four columns
   * inside C to `finish(part, row, col4, sum, shift)`; `shift` is the bias of the columns where there is one.
   */
  readonly body: (bias: boolean) => string;
}

/** Workgroups along the rows and columns of C. */
export function gemmTiles(
  { rows, columns }: Pick<GemmText, "rows" | "columns">,
  { m, n }: Extent,
): { readonly down: number; readonly across: number } {
  return { down: Math.ceil(m / rows), across: Math.ceil(n / columns) };
}

/** `load_A(row, col4)` and `load_B(row, col4)`: four consecutive elements of a stored row. */
export function operandLoaders(layout: GemmSpec["layout"]): string {
  const loader = (name: string, buffer: string, width: string) =>
    `fn load_${name}(row: u32, col4: u32) -> vec4f { return load_${buffer}(row * ${width} + col4); }`;
  return [
    loader("A", "a", layout === "TN" ? "(params.m / 4u)" : "params.k4"),
    loader("B", "b", layout === "NT" ? "params.k4" : "params.n4"),
  ].join("\n");
}

const PARAMS = ["m", "n4", "k", "k4", "across", "tiles", "parts", "depth", "alpha:f32"] as const;

/** The product of `parts` parts of the depth, into `partials`; a single part goes to C. */
function product(spec: GemmSpec, { m, n, k, alpha = 1 }: GemmShape, parts: number, text: GemmText): Launch {
  const { layout, a, b, c, bias, accumulate = false, activation } = spec;
  const { name, tile, workgroupSize, lane = false, units = false } = text;
  const operand = (name: string, dtype: DType): BufferSpec => units ? unitOperand(name, dtype) : { name, dtype };
  const out = parts === 1 ? "c" : "partials";
  const buffers: BufferSpec[] = [operand("a", a), operand("b", b), { name: out, dtype: c }];
  if (bias !== undefined) buffers.push({ name: "bias", dtype: bias });
  const { down, across } = gemmTiles(text, { m, n, k });
  const tiles = down * across;
  return {
    kernel: buildKernel({
      name: parts === 1 ? name : `${name}_partial`,
      spec: { layout, a, b, c, bias: bias ?? "none", accumulate, activation: activation ?? "none", ...tile },
      params: PARAMS,
      buffers,
      workgroupSize,
      lane,
      subgroupId: units,
      declarations: () =>
        [
          units ? "" : operandLoaders(layout),
          epilogueText(spec),
          `fn finish(part: u32, row: u32, col4: u32, sum: vec4f, shift: vec4f) {
  let index = (part * params.m + row) * params.n4 + col4;
  store_${out}(index, ${parts === 1 ? "epilogue(sum, index, shift)" : "sum"});
}`,
          text.declarations?.() ?? "",
        ].join("\n"),
      body: () => text.body(bias !== undefined),
    }),
    params: [m, n / 4, k, Math.ceil(k / 4), across, tiles, parts, Math.ceil(Math.ceil(k / 4) / parts), alpha],
    grid: foldGrid(tiles * parts),
    flops: 2 * m * n * k,
  };
}

/** Adds the partial products [parts, m, n] in order, and applies scale, bias, activation and accumulation. */
function sumOfParts(spec: GemmSpec, { m, n, alpha = 1 }: GemmShape, parts: number): Launch {
  const { c, bias, accumulate = false, activation } = spec;
  const buffers: BufferSpec[] = [{ name: "partials", dtype: "f32" }, { name: "c", dtype: c }];
  if (bias !== undefined) buffers.push({ name: "bias", dtype: bias });
  const count = m * n / 4;
  return {
    kernel: buildKernel({
      name: "gemm_sum",
      spec: { c, bias: bias ?? "none", accumulate, activation: activation ?? "none" },
      params: ["count", "n4", "parts", "alpha:f32"],
      buffers,
      workgroupSize: THREADS,
      declarations: () => epilogueText(spec),
      body: `if (gid >= params.count) { return; }
var sum = vec4f(0);
for (var part = 0u; part < params.parts; part++) { sum = sum + load_partials(part * params.count + gid); }
store_c(gid, epilogue(sum, gid, ${bias === undefined ? "vec4f(0)" : "load_bias(gid % params.n4)"}));`,
    }),
    params: [count, n / 4, parts, alpha],
    grid: foldGrid(Math.ceil(count / THREADS)),
    flops: m * n * parts,
  };
}

/** A product, whole or in `parts` equal parts of the depth. Operands: a, b, c, then bias if present. */
export function gemmWork(spec: GemmSpec, shape: GemmShape, parts: number, text: GemmText): Work {
  const writes = (launch: Launch, name: string): NamedLaunch => ({ launch, writes: [name] });
  if (parts === 1) return { launches: [writes(product(spec, shape, 1, text), "c")] };
  const { layout, a, b } = spec;
  return {
    launches: [
      writes(product({ layout, a, b, c: "f32" }, shape, parts, text), "partials"),
      writes(sumOfParts(spec, shape, parts), "c"),
    ],
    scratch: { partials: parts * shape.m * shape.n },
  };
}

/**
 * tanh-approximated GELU through the logistic function, 0.5 (1 + tanh u) = 1 / (1 + exp(-2u)); the bound keeps exp
 * finite.
 */
const GELU = `fn activate(x: vec4f) -> vec4f {
  let u = 0.7978845608028654 * (x + 0.044715 * x * x * x);
  return x / (1.0 + exp(min(-2.0 * u, vec4f(80.0))));
}`;

const SILU = `fn activate(x: vec4f) -> vec4f { return x / (1.0 + exp(min(-x, vec4f(80.0)))); }`;

/**
 * `epilogue(sum, index, shift)`: the four elements to store at `index` of C, in the order scale, bias, activation,
 * addition to C; `shift` is the bias of their columns.
 */
function epilogueText({ bias, activation, accumulate }: Pick<GemmSpec, "bias" | "activation" | "accumulate">): string {
  const steps = [
    "var v = params.alpha * sum;",
    bias === undefined ? "" : "v = v + shift;",
    activation === undefined ? "" : "v = activate(v);",
    accumulate ? "v = v + load_c(index);" : "",
  ];
  return `${activation === "gelu" ? GELU : activation === "silu" ? SILU : ""}
fn epilogue(sum: vec4f, index: u32, shift: vec4f) -> vec4f {
${steps.filter((step) => step !== "").join("\n")}
return v;
}`;
}
