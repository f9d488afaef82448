/** Sums over the rows of each segment of a joint sequence, column by column, in two stages with a fixed order. */
import { type BufferSpec, foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

/**
 * Which rows are summed together: rows `b * sequence + n`, text (`n < textRows`) apart from video, in every batch
 * element.
 */
export interface ColumnShape {
  readonly batch: number;
  /** Rows of one batch element. */
  readonly sequence: number;
  /** Leading rows that form the text segment; 0 makes the text sums zero. */
  readonly textRows: number;
  /** Columns, a multiple of four. */
  readonly width: number;
}

/** Threads that keep a large GPU busy; more parts only lengthen the second stage. */
const BUSY_THREADS = 131072;
/** Rows below which one more part costs more than it saves. */
const LEAST_ROWS = 16;

/**
 * Parts into which the rows of each segment are split (the same number for both). Also keeps the loop of a thread far
 * below the 65,535 iterations at which Mesa 22.3 ends loops silently.
 */
export function columnParts({ batch, sequence, textRows, width }: ColumnShape): number {
  const longest = Math.max(textRows, sequence - textRows);
  const wanted = Math.ceil(BUSY_THREADS / (fours("columns", width) * batch));
  return Math.max(1, Math.min(Math.ceil(longest / LEAST_ROWS), Math.max(32, Math.min(512, wanted))));
}

/** What one stage-one kernel adds up. */
export interface ColumnKernel {
  readonly name: string;
  readonly spec: Readonly<Record<string, string | number | boolean>>;
  /** Inputs; `partials` is appended. */
  readonly inputs: readonly BufferSpec[];
  /** Sums kept per column, 1 or 2. */
  readonly sums: number;
  /** Functions that `perRow` calls. */
  readonly declarations?: string;
  /**
   * Statements of one row: `b`, `row`, `column`, `at` (index of the vector) are given, `s0` and `s1` are to be
   * increased.
   */
  readonly perRow: string;
  readonly flopsPerElement: number;
}

/** f32 elements of the partials of a kernel with `sums` sums: [batch, 2 segments, parts, sums, width]. */
export function partialElements(shape: ColumnShape, sums: number): number {
  return shape.batch * 2 * columnParts(shape) * sums * shape.width;
}

/** Stage one: each thread adds four neighbouring columns over one part of the rows of one segment. */
export function columnPartials(kernel: ColumnKernel, shape: ColumnShape): Launch {
  const { name, spec, inputs, sums, perRow, flopsPerElement } = kernel;
  const { batch, sequence, textRows, width } = shape;
  const parts = columnParts(shape);
  const threads = batch * 2 * parts * fours("columns", width);
  return {
    kernel: buildKernel({
      name,
      spec,
      params: ["width4", "sequence", "text_rows", "parts", "threads"],
      buffers: [...inputs, { name: "partials", dtype: "f32" }],
      workgroupSize: THREADS,
      declarations: kernel.declarations ?? "",
      body: `
  if (gid < params.threads) {
    let column = gid % params.width4;
    let slot = gid / params.width4;
    let part = slot % params.parts;
    let video = (slot / params.parts) % 2u;
    let b = slot / (2u * params.parts);
    let start = video * params.text_rows;
    let end = select(params.text_rows, params.sequence, video == 1u);
    let length = (end - start + params.parts - 1u) / params.parts;
    let first = min(start + part * length, end);
    let last = min(first + length, end);
${unroll(sums, (i) => `    var s${i} = vec4f(0);`)}
    for (var n = first; n < last; n++) {
      let row = b * params.sequence + n;
      let at = row * params.width4 + column;
      ${perRow}
    }
${unroll(sums, (i) => `    store_partials((slot * ${sums}u + ${i}u) * params.width4 + column, s${i});`)}
  }`,
    }),
    params: [width / 4, sequence, textRows, parts, threads],
    grid: foldGrid(Math.ceil(threads / THREADS)),
    flops: flopsPerElement * batch * sequence * width,
  };
}

/** Where stage two writes. */
export interface FinishShape {
  readonly batch: number;
  readonly parts: number;
  /** Values of one partial: sums times columns. */
  readonly width: number;
  /** Elements between the outputs of two batch elements. */
  readonly stride: number;
  /** Offsets of the text and of the video sums inside one batch element. */
  readonly textOffset: number;
  readonly videoOffset: number;
}

/**
 * Stage two: adds the parts of `partials` (f32 [batch, 2, parts, width]) into `out` (f32).
 * With `accumulate` the result is added to what `out` holds; `total` adds all batch elements and both segments into one
 * row.
 */
export function finishColumns(spec: { accumulate: boolean; total: boolean }, shape: FinishShape): Launch {
  const { batch, parts, width, stride, textOffset, videoOffset } = shape;
  const width4 = fours("columns", width);
  const groups = spec.total ? 1 : batch * 2;
  const terms = spec.total ? batch * 2 * parts : parts;
  const keep = spec.accumulate ? "load_out(at) + " : "";
  return {
    kernel: buildKernel({
      name: "finish_columns",
      spec,
      params: ["width4", "terms", "threads", "stride4", "text4", "video4"],
      buffers: [{ name: "partials", dtype: "f32" }, { name: "out", dtype: "f32" }],
      workgroupSize: THREADS,
      body: `
  if (gid < params.threads) {
    let column = gid % params.width4;
    let group = gid / params.width4;
    let first = group * params.terms;
    var sum = vec4f(0);
    for (var i = 0u; i < params.terms; i++) { sum = sum + load_partials((first + i) * params.width4 + column); }
    let at = (group / 2u) * params.stride4 + select(params.text4, params.video4, group % 2u == 1u) + column;
    store_out(at, ${keep}sum);
  }`,
    }),
    params: [
      width4,
      terms,
      groups * width4,
      fours("stride", stride),
      fours("offset", textOffset),
      fours("offset", videoOffset),
    ],
    grid: foldGrid(Math.ceil(groups * width4 / THREADS)),
    flops: groups * terms * width,
  };
}
