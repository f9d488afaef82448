/**
 * What a kernel is: WGSL text made by a pure function of a small typed spec, plus the launch that gives it shapes.
 * Nothing here knows a device.
 *
 * Conventions every kernel follows:
 * - binding 0 is a uniform struct `params` of 32-bit words (shapes, strides, scalars known when recording);
 * - bindings 1.. are storage buffers in the order of `buffers`, every one `read_write`. Tensors share one arena buffer,
 *   and
 *   WebGPU lets one dispatch see a buffer through several bindings only when all of them are writable;
 * - matrices are row-major and a row is a multiple of four elements, so buffers are read and written four elements at a
 *   time;
 * - what a kernel does not write it reads by `load_NAME` and `element_NAME` alone, so plans may have it read through
 *   textures;
 * - arithmetic is f32 whatever the storage type;
 * - no binding overlaps another within one launch;
 * - the function that makes a launch takes, in this order, the target, the spec that decides its text, the shape, and
 *   choices with
 *   defaults (a tile): of these what it depends on, so a kernel that is the same on every device takes no target.
 */

/** How numbers lie in a buffer. f16 and bf16 are packed two to a word, so no shader extension is needed. */
export type DType = "f32" | "f16" | "bf16" | "u32";

/** Bytes of one element. */
export function bytesOf(dtype: DType): number {
  return dtype === "f32" || dtype === "u32" ? 4 : 2;
}

/** One storage binding: its name in the text and how its elements are stored. */
export interface BufferSpec {
  readonly name: string;
  readonly dtype: DType;
  /** Read through a texture that holds a copy of the tensor, {@linkcode TEXTURE_WIDTH} texels a row. */
  readonly texture?: true;
  /** Loads give f16 as it lies in memory: `vec4<f16>` in place of `vec4f`. For storage f16 alone. */
  readonly half?: true;
}

/** Bytes that one index of a kernel's loads and stores covers: four elements, or a single word of u32. */
export function stepBytes(dtype: DType): number {
  return dtype === "u32" ? 4 : 4 * bytesOf(dtype);
}

/** Texels of a row of such a texture; a texel holds four elements. */
export const TEXTURE_WIDTH = 2048;

/** Format of a texel of four elements. */
export type TexelFormat = "rgba32float" | "rg32uint";

/** Format of the texture that holds a tensor of `dtype`. */
export function texelFormat(dtype: DType): TexelFormat {
  return bytesOf(dtype) === 4 ? "rgba32float" : "rg32uint";
}

/** What a text uses beyond plain WGSL; each engine has its own directives for it. */
export type WgslFeature = "f16" | "subgroups" | "subgroup_matrix";

/** A compiled-on-demand program. Equal keys mean equal text, so pipelines are cached by key. */
export interface Kernel {
  /** Canonical print of the spec. */
  readonly key: string;
  readonly code: string;
  /** What {@linkcode code} uses, without the directives for it. */
  readonly features: readonly WgslFeature[];
  readonly buffers: readonly BufferSpec[];
  /** Names of the words of `params`, in order; a name ending in `:f32` is a float. */
  readonly params: readonly string[];
  /** The same program reading the buffers with these indices, which it must not write, through textures. */
  throughTextures(indices: readonly number[]): Kernel;
  /**
   * The same arithmetic on tensors that take several bindings each: `pieces[i]` consecutive ones in place of buffer i.
   * Further params, by buffer, are the indices at which its pieces but the first begin.
   */
  divide(pieces: readonly number[]): Kernel;
}

/**
 * A kernel with its shapes: what the plan records. Tensors are bound by the recorder in the order of `kernel.buffers`.
 */
export interface Launch {
  readonly kernel: Kernel;
  /** Values of `kernel.params`, in order. */
  readonly params: readonly number[];
  /** Workgroups in x and y; y > 1 only because x is limited to 65,535. */
  readonly grid: readonly [number, number, number];
  /** Arithmetic of the launch, multiply and add counted as two. */
  readonly flops: number;
  /** What it solves, where there are several ways to: on the first launch of each. */
  readonly problem?: Problem;
}

/** One launch with the names of the buffers it writes. */
export interface NamedLaunch {
  readonly launch: Launch;
  readonly writes: readonly string[];
}

/** Launches in order, whose operands are found by the names in `kernel.buffers`. */
export interface Work {
  readonly launches: readonly NamedLaunch[];
  /** Elements of the operands that carry results from one launch to the next. */
  readonly scratch?: Readonly<Record<string, number>>;
}

/** A problem of some family as a launch solves it: what a tuner collects from a recording. */
export interface Problem {
  readonly family: string;
  /** Canonical print of the family and of what decides; equal problems have equal keys. */
  readonly key: string;
  /** Whether operands may be rounded to f16. */
  readonly mixed: boolean;
  /** Names of the variant of this launch, of the one that is preferred unmeasured, and of the slow twin. */
  readonly chosen: string;
  readonly preferred: string;
  readonly twin: string;
  /** Names of all variants that apply. */
  candidates(): string[];
  work(variant: string): Work;
  /** Elements of every operand by name. */
  operands(): Readonly<Record<string, number>>;
  /** What operands hold that noise would not do for: four numbers, over and over. */
  readonly constants: Readonly<Record<string, readonly [number, number, number, number]>>;
  /** The same problem in a small size. */
  probe(): Problem;
}

/** A product [m, k] x [k, n] + [m, n] that matrix units compute in one instruction. */
export interface MatrixShape {
  /** Type of both operands. */
  readonly component: "f16";
  /** Type of the sum. */
  readonly result: "f16" | "f32";
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/**
 * What decides the text of a kernel besides its spec: what the device can do, and what the user and measurements chose
 * for it.
 */
export interface Target {
  /**
   * Smallest subgroup size if subgroup operations work and it is a multiple of 8, else 0 (then kernels use plain
   * paths).
   */
  readonly subgroups: number;
  /** Largest subgroup size, 0 where the adapter tells none. */
  readonly subgroupMax: number;
  /** Workgroup memory that one workgroup may declare. */
  readonly workgroupBytes: number;
  /** Shapes of the matrix units, empty where texts can't reach any. */
  readonly matrix: readonly MatrixShape[];
  /** As the adapter names it ("nvidia"); empty where it tells none. */
  readonly vendor: string;
  /** As the adapter names it ("hopper"); empty where it tells none. */
  readonly architecture: string;
  /** Whether texts may use the type f16. */
  readonly f16: boolean;
  /** Whether products may round their operands to f16 (config key `matmul_precision`). */
  readonly mixed: boolean;
  /** Measured choices: names of variants by keys of problems, see kernels/core/variants.ts. */
  readonly choices: ReadonlyMap<string, string>;
}

/**
 * A device of which only the subgroup size is known: the least workgroup memory that WebGPU guarantees and no matrix
 * units.
 */
export function plainTarget(subgroups: number): Target {
  return {
    subgroups,
    subgroupMax: subgroups,
    workgroupBytes: 16384,
    matrix: [],
    vendor: "",
    architecture: "",
    f16: false,
    mixed: false,
    choices: new Map(),
  };
}

/** Threads of a workgroup where nothing asks for another number: a multiple of 32, one-dimensional. */
export const THREADS = 64;

/**
 * Iterations of all loops of one invocation, nested ones counted: Mesa 22.3 ends loops silently past it. Launches whose
 * loops grow with a shape refuse larger ones.
 */
export const MOST_ITERATIONS = 65535;

/** Largest number of workgroups in one grid dimension that every WebGPU device accepts. */
const MAX_GRID = 65535;

/**
 * Folds a count of workgroups into x and y; the kernel finds its number with `workgroup_number()` and checks the bound.
 */
export function foldGrid(workgroups: number): [number, number, number] {
  if (workgroups <= MAX_GRID) return [Math.max(1, workgroups), 1, 1];
  const y = Math.ceil(workgroups / MAX_GRID);
  const x = Math.ceil(workgroups / y);
  if (y > MAX_GRID) {
    throw new RangeError(`Cannot launch ${workgroups} workgroups as a grid holds at most ${MAX_GRID} x ${MAX_GRID}`);
  }
  return [x, y, 1];
}
