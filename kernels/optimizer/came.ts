/**
 * CAME (arXiv:2307.02047): the second moment of a matrix is kept as row and column means only, and so is the
 * instability of the update, which lowers the trust in it. Eleven launches per matrix; buffers are found by the names
 * in `kernel.buffers`.
 */
import {
  type BufferSpec,
  type DType,
  foldGrid,
  type Launch,
  type NamedLaunch,
  type Target,
  THREADS,
} from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { columnPartials, columnParts, type ColumnShape, partialElements } from "../reduce/columns.ts";
import { hasSubgroups, LANES, laneSums, sumWorkgroup } from "../reduce/lanes.ts";
import { finishSum } from "../reduce/sums.ts";
import { buildKernel } from "../core/wgsl.ts";
import { WATCH } from "./watch.ts";

/** A stack of matrices [batch, rows, width] of which the first `columns` of each row are in use, the rest zero. */
export interface CameShape {
  readonly batch: number;
  readonly rows: number;
  readonly columns: number;
  /** Multiple of four. */
  readonly width: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly beta3: number;
  readonly weightDecay: number;
}

/**
 * f32 elements of the buffers of {@linkcode came}; all but `partials` and `squares` last from step to step and start at
 * zero.
 */
export interface CameSizes {
  /** Mean of the update, [batch, rows, width]. */
  readonly moment: number;
  /** [batch, rows, 4]: row means of the squared gradient and of the instability, 0, 0. */
  readonly row_means: number;
  /** [2, batch, width]: column means of both. */
  readonly column_means: number;
  /** [batch, 4]: the means of the row means. */
  readonly means: number;
  readonly partials: number;
  readonly squares: number;
  /** [4]: mean square of the update. */
  readonly mean_square: number;
}

/** Added to squared gradients. */
export const SQUARE_FLOOR = 1e-30;
/** Added to the instability. */
export const INSTABILITY_FLOOR = 1e-16;
/** Vectors per thread where the size of the update is measured. */
const UNROLL = 4;

function columnShape({ batch, rows, width }: CameShape): ColumnShape {
  return { batch, sequence: rows, textRows: 0, width };
}

function squareGroups({ batch, rows, width }: CameShape): number {
  return Math.ceil(batch * rows * fours("columns", width) / (THREADS * UNROLL));
}

/** Sizes of the buffers for a shape. */
export function cameSizes(shape: CameShape): CameSizes {
  const { batch, rows, width } = shape;
  return {
    moment: batch * rows * width,
    row_means: batch * rows * 4,
    column_means: 2 * batch * width,
    means: batch * 4,
    partials: partialElements(columnShape(shape), 1),
    squares: squareGroups(shape) * 4,
    mean_square: 4,
  };
}

const f32 = (...names: string[]): BufferSpec[] => names.map((name) => ({ name, dtype: "f32" }));

/**
 * The factored second moment applied to the gradient, before and after its size is limited to a root mean square of 1.
 */
const UPDATE = `fn raw_update(at: u32, row: u32, b: u32, column: u32, factor: f32) -> vec4f {
  let row_part = inverseSqrt(load_row_means(row).x / load_means(b).x);
  return load_gradients(at) * factor * row_part * inverseSqrt(load_column_means(b * params.width4 + column));
}`;
const LIMITED_UPDATE = `${UPDATE}
fn update(at: u32, row: u32, b: u32, column: u32, factor: f32) -> vec4f {
  return raw_update(at, row, b, column, factor) / max(1.0, sqrt(load_mean_square(0u).x));
}`;
const UPDATE_BUFFERS = ["row_means", "column_means", "means"];

/**
 * Row means of the squared gradient, or the first moment with the row means of the instability: eight lanes per row.
 */
function rowPass(target: Target, kind: "squares" | "instability", gradients: DType, shape: CameShape): NamedLaunch {
  const { batch, rows, columns, width, beta1, beta2, beta3 } = shape;
  const squares = kind === "squares";
  const decay = squares ? beta2 : beta3;
  const floor = squares ? SQUARE_FLOOR : INSTABILITY_FLOOR;
  const inner = squares
    ? `let g = load_gradients(at) * control.y;
      sum = sum + g * g;`
    : `let u = update(at, row, row / params.rows, c, control.y);
      let m = params.beta1 * load_moment(at) + params.rest1 * u;
      if (live) {
        store_moment(at, m);
        watch(m, control);
      }
      sum = sum + (u - m) * (u - m);`;
  const launch = {
    kernel: buildKernel({
      name: `came_row_${kind}`,
      spec: { gradients, subgroups: hasSubgroups(target) },
      params: [
        "width4",
        "all_rows",
        "rows",
        "share:f32",
        "floor:f32",
        "decay:f32",
        "rest:f32",
        "beta1:f32",
        "rest1:f32",
      ],
      buffers: [
        { name: "gradients", dtype: gradients },
        ...f32("control", "row_means"),
        ...(squares ? [] : f32("column_means", "means", "mean_square", "moment")),
      ],
      workgroupSize: THREADS,
      declarations: `${laneSums(target)}\n${WATCH}${squares ? "" : `\n${LIMITED_UPDATE}`}`,
      body: `
  let control = load_control(0u);
  let l = gid % ${LANES}u;
  let live = gid / ${LANES}u < params.all_rows && control.z == 0.0;
  let row = min(gid / ${LANES}u, params.all_rows - 1u);
  var sum = vec4f(0);
  for (var c = l; c < params.width4; c += ${LANES}u) {
      let at = row * params.width4 + c;
      ${inner}
  }
  let mean = lane_sum(dot(sum, vec4f(1)), li) * params.share + params.floor;
  if (l == 0u && live) {
    let old = load_row_means(row);
    let next = ${
        squares
          ? "vec4f(params.decay * old.x + params.rest * mean, old.y, 0, 0)"
          : "vec4f(old.x, params.decay * old.y + params.rest * mean, 0, 0)"
      };
    store_row_means(row, next);
    watch(next, control);
  }`,
    }),
    params: [width / 4, batch * rows, rows, 1 / columns, floor, decay, 1 - decay, beta1, 1 - beta1],
    grid: foldGrid(Math.ceil(batch * rows * LANES / THREADS)),
    flops: (squares ? 2 : 10) * batch * rows * width,
  };
  return { launch, writes: ["row_means", "control", ...(squares ? [] : ["moment"])] };
}

/** First stage of the column means of the squared gradient or of the instability. */
function columnPass(kind: "squares" | "instability", gradients: DType, shape: CameShape): NamedLaunch {
  const squares = kind === "squares";
  const launch = columnPartials({
    name: `came_column_${kind}`,
    spec: { gradients },
    inputs: [
      { name: "gradients", dtype: gradients },
      ...f32("control"),
      ...(squares ? [] : f32(...UPDATE_BUFFERS, "mean_square", "moment")),
    ],
    sums: 1,
    declarations: squares ? "" : LIMITED_UPDATE,
    perRow: squares
      ? "let g = load_gradients(at) * load_control(0u).y; s0 = s0 + g * g;"
      : "let d = update(at, row, b, column, load_control(0u).y) - load_moment(at); s0 = s0 + d * d;",
    flopsPerElement: squares ? 3 : 8,
  }, columnShape(shape));
  return { launch, writes: ["partials"] };
}

/**
 * Second stage: column means decay towards the sums. Squares lie in the first half of `column_means`, instability
 * behind.
 */
function columnMeans(kind: "squares" | "instability", shape: CameShape): NamedLaunch {
  const { batch, rows, width, beta2, beta3 } = shape;
  const decay = kind === "squares" ? beta2 : beta3;
  const floor = kind === "squares" ? SQUARE_FLOOR : INSTABILITY_FLOOR;
  const width4 = width / 4;
  const parts = columnParts(columnShape(shape));
  const launch = {
    kernel: buildKernel({
      name: "came_column_means",
      spec: {},
      params: ["threads", "width4", "parts", "offset", "share:f32", "floor:f32", "decay:f32", "rest:f32"],
      buffers: f32("partials", "control", "column_means"),
      workgroupSize: THREADS,
      declarations: WATCH,
      body: `
  let control = load_control(0u);
  if (gid < params.threads && control.z == 0.0) {
    let b = gid / params.width4;
    let column = gid % params.width4;
    let first = (2u * b + 1u) * params.parts;
    var sum = vec4f(0);
    for (var i = 0u; i < params.parts; i++) { sum = sum + load_partials((first + i) * params.width4 + column); }
    let at = params.offset + gid;
    let next = params.decay * load_column_means(at) + params.rest * (sum * params.share + params.floor);
    store_column_means(at, next);
    watch(next, control);
  }`,
    }),
    params: [batch * width4, width4, parts, kind === "squares" ? 0 : batch * width4, 1 / rows, floor, decay, 1 - decay],
    grid: foldGrid(Math.ceil(batch * width4 / THREADS)),
    flops: batch * width * parts,
  };
  return { launch, writes: ["column_means", "control"] };
}

/** Means over the rows of both row means, one workgroup per matrix. */
function meansOfRows(target: Target, { batch, rows }: CameShape): NamedLaunch {
  const launch: Launch = {
    kernel: buildKernel({
      name: "came_means",
      spec: { subgroups: hasSubgroups(target) },
      params: ["batch", "rows", "share:f32"],
      buffers: f32("row_means", "means"),
      workgroupSize: THREADS,
      declarations: laneSums(target),
      body: `
  let b = min(wg, params.batch - 1u);
  var sum = vec4f(0);
  for (var i = li; i < params.rows; i += ${THREADS}u) { sum = sum + load_row_means(b * params.rows + i); }
${sumWorkgroup("sum")}
  if (li == 0u && wg < params.batch) { store_means(wg, total * params.share); }`,
    }),
    params: [batch, rows, 1 / rows],
    grid: foldGrid(batch),
    flops: 4 * batch * rows,
  };
  return { launch, writes: ["means"] };
}

/** Partial sums of the squared update. */
function updateSize(target: Target, gradients: DType, shape: CameShape): NamedLaunch {
  const { batch, rows, width } = shape;
  const groups = squareGroups(shape);
  const launch = {
    kernel: buildKernel({
      name: "came_update_size",
      spec: { gradients, subgroups: hasSubgroups(target) },
      params: ["count4", "width4", "rows", "groups"],
      buffers: [{ name: "gradients", dtype: gradients }, ...f32("control", ...UPDATE_BUFFERS, "squares")],
      workgroupSize: THREADS,
      declarations: `${laneSums(target)}\n${UPDATE}`,
      body: `
  let factor = load_control(0u).y;
  var sum = vec4f(0);
  for (var i = 0u; i < ${UNROLL}u; i++) {
    let at = wg * ${THREADS * UNROLL}u + i * ${THREADS}u + li;
    if (at < params.count4) {
      let row = at / params.width4;
      let u = raw_update(at, row, row / params.rows, at % params.width4, factor);
      sum = sum + u * u;
    }
  }
${sumWorkgroup("sum")}
  if (li == 0u && wg < params.groups) { store_squares(wg, total); }`,
    }),
    params: [batch * rows * width / 4, width / 4, rows, groups],
    grid: foldGrid(groups),
    flops: 6 * batch * rows * width,
  };
  return { launch, writes: ["squares"] };
}

/** p = p - lr (wd p + m / sqrt(instability)), with the instability factored like the second moment. */
function applyUpdate(copy: DType | "none", shape: CameShape): NamedLaunch {
  const { batch, rows, width, weightDecay } = shape;
  const count = batch * rows * width / 4;
  const launch = {
    kernel: buildKernel({
      name: "came_apply",
      spec: { copy },
      params: ["count4", "width4", "rows", "offset", "decay:f32"],
      buffers: [
        ...f32("parameters", "moment", ...UPDATE_BUFFERS, "state", "control"),
        ...(copy === "none" ? [] : [{ name: "copy", dtype: copy }]),
      ],
      workgroupSize: THREADS,
      declarations: WATCH,
      body: `
  let control = load_control(0u);
  if (gid < params.count4 && control.z == 0.0) {
    let row = gid / params.width4;
    let b = row / params.rows;
    let row_part = inverseSqrt(load_row_means(row).y / load_means(b).y);
    let column_part = inverseSqrt(load_column_means(params.offset + b * params.width4 + gid % params.width4));
    let p = load_parameters(gid);
    let q = p - load_state(0u).x * (params.decay * p + load_moment(gid) * row_part * column_part);
    store_parameters(gid, q);
    watch(q, control);
    ${copy === "none" ? "" : "store_copy(gid, q);"}
  }`,
    }),
    params: [count, width / 4, rows, batch * width / 4, weightDecay],
    grid: foldGrid(Math.ceil(count / THREADS)),
    flops: 8 * batch * rows * width,
  };
  return { launch, writes: ["parameters", "control", ...(copy === "none" ? [] : ["copy"])] };
}

/**
 * One CAME step of a stack of matrices. Buffers by name: parameters, gradients, state (f32 [4], first value the
 * learning rate), control (of clipControl), copy when wanted, and those of {@linkcode CameSizes}. Clip threshold 1.
 */
export function came(
  target: Target,
  spec: { readonly gradients: DType; readonly copy: DType | "none" },
  shape: CameShape,
): NamedLaunch[] {
  const { gradients, copy } = spec;
  const { batch, rows, columns } = shape;
  const size = finishSum(target, { slots: squareGroups(shape), scale: 1 / (batch * rows * columns) });
  return [
    rowPass(target, "squares", gradients, shape),
    columnPass("squares", gradients, shape),
    columnMeans("squares", shape),
    meansOfRows(target, shape),
    updateSize(target, gradients, shape),
    { launch: renamed(size, ["squares", "mean_square"]), writes: ["mean_square"] },
    rowPass(target, "instability", gradients, shape),
    columnPass("instability", gradients, shape),
    columnMeans("instability", shape),
    meansOfRows(target, shape),
    applyUpdate(copy, shape),
  ];
}

/** The same kernel with the names its buffers have here; the text and the key stay. */
export function renamed(launch: Launch, names: readonly string[]): Launch {
  const buffers = launch.kernel.buffers.map((buffer, i) => ({ ...buffer, name: names[i]! }));
  return { ...launch, kernel: { ...launch.kernel, buffers } };
}
