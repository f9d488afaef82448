/** Elementwise kernels that know rows: gated residual, positional table, embedding lookup. */
import { type BufferSpec, type DType, foldGrid, type Launch, type Target, THREADS, type Work } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { type Family, solve } from "../core/variants.ts";
import { GROUP_ROWS, locateRows, probeRows, ROW_PARAMS, rowGroups, type SegmentRows } from "../norm/rows.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

/** A joint sequence with the place of its gates: element offsets inside one row of f32 [batch, stride]. */
export interface GatedShape extends SegmentRows {
  readonly width: number;
  readonly stride: number;
  readonly gateText: number;
  readonly gateVideo: number;
}

/** A kernel with its buffers. */
interface Vectorwise {
  readonly name: string;
  readonly spec: Readonly<Record<string, string | number | boolean>>;
  readonly buffers: readonly BufferSpec[];
  /** Statement for the vector at `at`. */
  readonly perVector: string;
  readonly flopsPerElement: number;
}

/** One thread takes one column of `size` rows of the same segment, so the gate is loaded once for them. */
function gated(kernel: Vectorwise, shape: GatedShape, size: number): Launch {
  const { params, groups } = rowGroups(shape, size);
  const width4 = fours("width", shape.width);
  const threads = groups * width4;
  return {
    kernel: buildKernel({
      name: kernel.name,
      spec: { ...kernel.spec, rows: size },
      params: [...ROW_PARAMS, "width4", "stride4", "gate_text4", "gate_video4"],
      buffers: kernel.buffers,
      workgroupSize: THREADS,
      body: `${locateRows("gid / params.width4", size)}
  let c = gid % params.width4;
  let gate = load_gate(b * params.stride4 + select(params.gate_video4, params.gate_text4, text) + c);
${unroll(size, (i) => `  if (live${i}) { let at = row${i} * params.width4 + c; ${kernel.perVector} }`)}`,
    }),
    params: [
      ...params,
      width4,
      fours("stride", shape.stride),
      fours("gate chunk", shape.gateText),
      fours("gate chunk", shape.gateVideo),
    ],
    grid: foldGrid(Math.ceil(threads / THREADS)),
    flops: kernel.flopsPerElement * shape.rows * shape.width,
  };
}

/**
 * Rows of a thread, by names of variants, all with the same bits: few of them make more threads, many load the gate
 * less often. Rates on GPUs: not yet measured.
 */
const GATED_ROWS = { "4 rows": GROUP_ROWS, "1 row": 1 } as const;

/** A gated kernel in every number of rows; the last of its buffers is written. */
function gatedFamily<Spec extends Readonly<Record<string, DType>>>(
  name: string,
  kernelOf: (spec: Spec) => Pick<Vectorwise, "buffers" | "perVector" | "flopsPerElement">,
): Family<Spec, GatedShape> {
  return {
    name,
    variants: Object.entries(GATED_ROWS).map(([variant, rows]) => ({
      name: variant,
      applies: () => true,
      work(_, spec, shape) {
        const kernel = kernelOf(spec);
        const launch = gated({ ...kernel, name, spec }, shape, rows);
        return { launches: [{ launch, writes: [kernel.buffers.at(-1)!.name] }] };
      },
    })),
    prefer: () => "4 rows",
    twin: "4 rows",
    traits: (spec, { rows, sequence, textRows, width }) => ({ ...spec, rows, sequence, textRows, width }),
    operands: (spec, { rows, sequence, width, stride }) =>
      Object.fromEntries(
        kernelOf(spec).buffers.map(({ name }) => {
          return [name, name === "gate" ? rows / sequence * stride : rows * width];
        }),
      ),
    probe: (shape) => ({ ...shape, ...probeRows(shape) }),
  };
}

/** Element types of {@linkcode gatedResidual}. */
export interface GatedSpec extends Readonly<Record<string, DType>> {
  readonly x: DType;
  readonly y: DType;
  readonly out: DType;
}

/** Element types of {@linkcode gatedResidualBackward}. */
export interface GatedBackwardSpec extends Readonly<Record<string, DType>> {
  readonly g: DType;
  readonly dy: DType;
}

/** The families of the gated residual and its gradient. */
export const gatedFamilies = {
  forward: gatedFamily<GatedSpec>("gated_residual", ({ x, y, out }) => ({
    buffers: [
      { name: "x", dtype: x },
      { name: "gate", dtype: "f32" },
      { name: "y", dtype: y },
      { name: "out", dtype: out },
    ],
    perVector: "store_out(at, load_x(at) + gate * load_y(at));",
    flopsPerElement: 2,
  })),
  backward: gatedFamily<GatedBackwardSpec>("gated_residual_backward", ({ g, dy }) => ({
    buffers: [{ name: "gate", dtype: "f32" }, { name: "g", dtype: g }, { name: "dy", dtype: dy }],
    perVector: "store_dy(at, gate * load_g(at));",
    flopsPerElement: 1,
  })),
};

/**
 * out = x + gate * y with the gate of the row's batch element and segment. Operands: x, gate (f32 [batch, stride]), y,
 * out.
 */
export function gatedResidual(target: Target, spec: GatedSpec, shape: GatedShape): Work {
  return solve(gatedFamilies.forward, target, spec, shape);
}

/** dy = gate * g. Operands: gate (f32 [batch, stride]), g, dy. */
export function gatedResidualBackward(target: Target, spec: GatedBackwardSpec, shape: GatedShape): Work {
  return solve(gatedFamilies.backward, target, spec, shape);
}

/** One thread per vector of a matrix; `row`, `c` and `at` are given. */
function perRow(
  kernel: Vectorwise & { readonly params?: Readonly<Record<string, number>> },
  rows: number,
  width: number,
): Launch {
  const width4 = fours("width", width);
  const extra = kernel.params ?? {};
  return {
    kernel: buildKernel({
      name: kernel.name,
      spec: kernel.spec,
      params: ["count4", "width4", ...Object.keys(extra)],
      buffers: kernel.buffers,
      workgroupSize: THREADS,
      body: `
  if (gid < params.count4) {
    let at = gid;
    let row = gid / params.width4;
    let c = gid % params.width4;
    ${kernel.perVector}
  }`,
    }),
    params: [rows * width4, width4, ...Object.values(extra)],
    grid: foldGrid(Math.ceil(rows * width4 / THREADS)),
    flops: kernel.flopsPerElement * rows * width,
  };
}

/** Rows [rows, width] of which every `sequence` share one table [sequence, width]. */
export interface AddedTableShape {
  readonly rows: number;
  readonly sequence: number;
  readonly width: number;
}

/** x[b, n] += table[n] for every batch element. Buffers: x, table. */
export function addTable(spec: { readonly x: DType; readonly table: DType }, shape: AddedTableShape): Launch {
  return perRow(
    {
      name: "add_table",
      spec: { x: spec.x, table: spec.table },
      buffers: [{ name: "x", dtype: spec.x }, { name: "table", dtype: spec.table }],
      params: { sequence: shape.sequence },
      perVector: "store_x(at, load_x(at) + load_table((row % params.sequence) * params.width4 + c));",
      flopsPerElement: 1,
    },
    shape.rows,
    shape.width,
  );
}

/**
 * y[i] = table[ids[i]]; an id past the vocabulary reads its last row. Buffers: ids (u32 [rows]), table [vocabulary,
 * width], y.
 */
export function embedding(
  spec: { readonly table: DType; readonly y: DType },
  shape: { readonly rows: number; readonly width: number; readonly vocabulary: number },
): Launch {
  return perRow(
    {
      name: "embedding",
      spec: { table: spec.table, y: spec.y },
      buffers: [{ name: "ids", dtype: "u32" }, { name: "table", dtype: spec.table }, { name: "y", dtype: spec.y }],
      params: { vocabulary: shape.vocabulary },
      perVector: "store_y(at, load_table(min(load_ids(row), params.vocabulary - 1u) * params.width4 + c));",
      flopsPerElement: 0,
    },
    shape.rows,
    shape.width,
  );
}
