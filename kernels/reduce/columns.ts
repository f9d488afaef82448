/**
 * Sums over the rows of each segment of a joint sequence, column by column, in two stages with a fixed order: threads
 * add a part of the rows each, then the parts are added.
 */
import { type BufferSpec, foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import type { Family, Variant } from "../core/variants.ts";
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

/** A matrix [rows, width] whose rows are all summed together. */
export interface RowsShape {
  readonly rows: number;
  readonly width: number;
}

/** Its rows as a sequence without text. */
export function matrixColumns({ rows, width }: RowsShape): ColumnShape {
  return { batch: 1, sequence: rows, textRows: 0, width };
}

/** How the rows are shared out, and how many a thread loads before it adds the first. */
interface Way {
  /** Stable, as tables of choices hold it. */
  readonly name: string;
  readonly ahead: number;
  /** Divides the number of parts. */
  readonly longer: number;
}

const ONE: Way = { name: "one by one", ahead: 1, longer: 1 };
const EIGHT: Way = { name: "eight ahead", ahead: 8, longer: 1 };

/**
 * A thread that loads one row after the other waits for memory each time; of eight rows ahead it waits once, and adds
 * them in the same order. Longer parts leave less to the second stage, which has a thread for four columns alone. Rates
 * on GPUs: not yet measured.
 */
const WAYS: readonly Way[] = [ONE, EIGHT, { name: "eight ahead, long parts", ahead: 8, longer: 4 }];

/** Threads that keep a large GPU busy; more parts only lengthen the second stage. */
const BUSY_THREADS = 131072;
/** Rows below which one more part costs more than it saves. */
const LEAST_ROWS = 16;

/**
 * Parts into which the rows of each segment are split (the same number for both). Also keeps the loop of a thread far
 * below the 65,535 iterations at which Mesa 22.3 ends loops silently.
 */
export function columnParts({ batch, sequence, textRows, width }: ColumnShape, { longer }: Way = ONE): number {
  const longest = Math.max(textRows, sequence - textRows);
  const wanted = Math.ceil(BUSY_THREADS / (fours("columns", width) * batch));
  return Math.ceil(
    Math.max(1, Math.min(Math.ceil(longest / LEAST_ROWS), Math.max(32, Math.min(512, wanted)))) / longer,
  );
}

/** Statements for every `i` from `first` to `last`, `ahead` of them between two looks at the condition. */
function inOrder(ahead: number, i: string, [first, last]: readonly [string, string], text: string): string {
  const each = `for (; ${i} < ${last}; ${i}++) {\n${text}\n}`;
  if (ahead === 1) return `var ${i} = ${first};\n${each}`;
  const block = (at: number) => `{ let base = ${i}; let ${i} = base + ${at}u;\n${text}\n}`;
  return `var ${i} = ${first};
for (; ${i} + ${ahead}u <= ${last}; ${i} += ${ahead}u) {
${unroll(ahead, block)}
}
${each}`;
}

/** What is added up. */
export interface ColumnKernel {
  readonly name: string;
  readonly spec: Readonly<Record<string, string | number | boolean>>;
  /** Operands that are read; `partials` is appended. */
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

/** What is added up of tensors of some types, and where the sums go. */
export interface ColumnSums<Spec, Shape> {
  readonly name: string;
  readonly kernel: (spec: Spec) => Omit<ColumnKernel, "name" | "spec">;
  readonly columns: (shape: Shape) => ColumnShape;
  readonly output: (spec: Spec, shape: Shape) => Output;
  /** Elements of operands that are no rows. */
  readonly elements: (shape: Shape) => Readonly<Record<string, number>>;
  readonly probe: (shape: Shape) => Shape;
}

/** Where the second stage writes: `out`, f32. */
interface Output {
  /** Adds the result to what `out` holds. */
  readonly accumulate: boolean;
  /** Adds all batch elements and both segments into one row. */
  readonly total: boolean;
  /** Elements between the outputs of two batch elements. */
  readonly stride: number;
  /** Offsets of the text and of the video sums inside one batch element. */
  readonly textOffset: number;
  readonly videoOffset: number;
}

/** f32 elements of the partials of a kernel with `sums` sums: [batch, 2 segments, parts, sums, width]. */
export function partialElements(shape: ColumnShape, sums: number, way: Way = ONE): number {
  return shape.batch * 2 * columnParts(shape, way) * sums * shape.width;
}

/** Stage one: each thread adds four neighbouring columns over one part of the rows of one segment. */
export function columnPartials(kernel: ColumnKernel, shape: ColumnShape, way: Way = ONE): Launch {
  const { name, spec, inputs, sums, declarations = "", perRow, flopsPerElement } = kernel;
  const { batch, sequence, textRows, width } = shape;
  const parts = columnParts(shape, way);
  const threads = batch * 2 * parts * fours("columns", width);
  const row = `let row = b * params.sequence + n;
      let at = row * params.width4 + column;
      ${perRow}`;
  return {
    kernel: buildKernel({
      name,
      spec: { ...spec, ahead: way.ahead },
      params: ["width4", "sequence", "text_rows", "parts", "threads"],
      buffers: [...inputs, { name: "partials", dtype: "f32" }],
      workgroupSize: THREADS,
      declarations,
      body: () => `
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
${inOrder(way.ahead, "n", ["first", "last"], row)}
${unroll(sums, (i) => `    store_partials((slot * ${sums}u + ${i}u) * params.width4 + column, s${i});`)}
  }`,
    }),
    params: [width / 4, sequence, textRows, parts, threads],
    grid: foldGrid(Math.ceil(threads / THREADS)),
    flops: flopsPerElement * batch * sequence * width,
  };
}

/** Stage two: adds the parts of `partials` (f32 [batch, 2, parts, sums, width]) into `out`. */
function secondStage(way: Way, sums: number, shape: ColumnShape, output: Output): Launch {
  const { accumulate, total, stride, textOffset, videoOffset } = output;
  const width4 = fours("columns", sums * shape.width);
  const parts = columnParts(shape, way);
  const groups = total ? 1 : shape.batch * 2;
  const terms = total ? shape.batch * 2 * parts : parts;
  const keep = accumulate ? "load_out(at) + " : "";
  return {
    kernel: buildKernel({
      name: "finish_columns",
      spec: { accumulate, total, ahead: way.ahead },
      params: ["width4", "terms", "threads", "stride4", "text4", "video4"],
      buffers: [{ name: "partials", dtype: "f32" }, { name: "out", dtype: "f32" }],
      workgroupSize: THREADS,
      body: `
  if (gid < params.threads) {
    let column = gid % params.width4;
    let group = gid / params.width4;
    let first = group * params.terms;
    var sum = vec4f(0);
${
        inOrder(
          way.ahead,
          "i",
          ["0u", "params.terms"],
          "sum = sum + load_partials((first + i) * params.width4 + column);",
        )
      }
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
    flops: groups * terms * sums * shape.width,
  };
}

function variant<Spec extends Readonly<Record<string, string | boolean>>, Shape>(
  { name, kernel, columns, output }: ColumnSums<Spec, Shape>,
  way: Way,
): Variant<Spec, Shape> {
  return {
    name: way.name,
    applies: () => true,
    work(_, spec, shape) {
      const own = { name, spec, ...kernel(spec) };
      const rows = columns(shape);
      return {
        launches: [
          { launch: columnPartials(own, rows, way), writes: ["partials"] },
          { launch: secondStage(way, own.sums, rows, output(spec, shape)), writes: ["out"] },
        ],
        scratch: { partials: partialElements(rows, own.sums, way) },
      };
    },
  };
}

/** Sums in every way. Operands: those of the kernel, then `out`. */
export function columnFamily<Spec extends Readonly<Record<string, string | boolean>>, Shape>(
  sums: ColumnSums<Spec, Shape>,
): Family<Spec, Shape> {
  const { name, kernel, columns, elements, probe } = sums;
  return {
    name,
    variants: WAYS.map((way) => variant(sums, way)),
    // The same bits; a software driver computes while it waits for nothing.
    prefer: ({ subgroups }) => subgroups >= 16 ? EIGHT.name : ONE.name,
    twin: ONE.name,
    traits(spec, shape) {
      const { batch, sequence, textRows, width } = columns(shape);
      return { ...spec, batch, sequence, textRows, width };
    },
    operands(spec, shape) {
      const { batch, sequence, width } = columns(shape);
      const others = elements(shape);
      const rows = kernel(spec).inputs.map(({ name }) => [name, others[name] ?? batch * sequence * width]);
      return { ...Object.fromEntries(rows), out: others.out! };
    },
    probe,
  };
}

/** Rows of which every part of a few ends with some that are added one by one. */
const PROBE_ROWS = 75;

/** A matrix of few rows. */
export function probeMatrix({ rows, width }: RowsShape): RowsShape {
  return { rows: Math.min(rows, PROBE_ROWS), width };
}

/** A sequence so short that sums take no time, of which each segment still ends inside a part. */
export function probeSequence(
  { sequence, textRows }: Pick<ColumnShape, "sequence" | "textRows">,
): Pick<ColumnShape, "sequence" | "textRows"> {
  const short = Math.min(sequence, PROBE_ROWS);
  return { sequence: short, textRows: Math.min(textRows, 18, short) };
}
