/**
 * Tensors that train, packed into a few flat buffers so that the optimizer is a handful of launches whatever their
 * number.
 */
import { bytesOf, type DType } from "../../../kernels/core/kernel.ts";
import { elements, Tensor } from "../../plan/tensor.ts";

/** Every window starts at a multiple of this many elements, which aligns it in f32 and in two-byte storage. */
const WINDOW_ELEMENTS = 128;

/** Largest flat buffer: what every adapter binds at once. */
const BUCKET_BYTES = 128 * 2 ** 20;

/** Tensors of different blocks never share a bucket, so that a bucket in host memory is fetched for one block only. */
function blockOf(name: string): string {
  return /^transformer_blocks\.\d+/.exec(name)?.[0] ?? "";
}

/** One flat buffer of masters with its gradients; the optimizer adds its moments. */
export interface Bucket {
  /** Masters: f32, or bf16 where nothing finer is kept. */
  readonly values: Tensor;
  /** f32 sums of gradients. */
  readonly gradients: Tensor;
  /** What kernels read when that is not the master itself: the masters rounded to the working type. */
  readonly copy: Tensor | undefined;
  /** What lies in it, in order. */
  readonly tensors: readonly Trainable[];
}

/** One trained tensor. */
export interface Trainable {
  readonly name: string;
  /** Shape as stored on the GPU (rows padded to a multiple of four elements). */
  readonly shape: readonly number[];
  /** Shape before padding and folding: what an optimizer that looks at rows and columns goes by. */
  readonly trueShape: readonly number[];
  /** Window of its bucket's values. */
  readonly master: Tensor;
  /** What the model reads; its gradient is a window of the bucket's gradients. */
  readonly working: Tensor;
}

/** All trained tensors of a run. */
export interface Trainables {
  readonly buckets: readonly Bucket[];
  readonly byName: ReadonlyMap<string, Trainable>;
}

/** Which parts of the buckets live in host memory. */
export interface TrainablePlaces {
  readonly values?: boolean;
  readonly gradients?: boolean;
  readonly copies?: boolean;
}

/** Options of {@linkcode packTrainables}. */
export interface PackOptions extends TrainablePlaces {
  /** Shapes before padding and folding, of those tensors that are stored otherwise. */
  readonly trueShapes?: ReadonlyMap<string, readonly number[]>;
  /** Storage of the masters. Default f32. */
  readonly masters?: "f32" | "bf16";
  /** The model reads a copy of the masters even where the storage types are equal. */
  readonly alwaysCopy?: boolean;
}

/**
 * Packs named shapes in order. `working` other than the masters' type gives every bucket a rounded copy that the model
 * reads.
 */
export function packTrainables(
  shapes: ReadonlyMap<string, readonly number[]>,
  working: DType,
  { trueShapes = shapes, masters = "f32", alwaysCopy = false, ...onHost }: PackOptions = {},
): Trainables {
  const plans: { name: string; shape: readonly number[]; offset: number }[][] = [];
  const sizes: number[] = [];
  let block: string | undefined;
  for (const [name, shape] of shapes) {
    const size = Math.ceil(elements(shape) / WINDOW_ELEMENTS) * WINDOW_ELEMENTS;
    const last = sizes.length - 1;
    if (blockOf(name) !== block || (sizes[last]! + size) * bytesOf("f32") > BUCKET_BYTES) {
      block = blockOf(name);
      sizes.push(0);
      plans.push([]);
    }
    const bucket = sizes.length - 1;
    plans[bucket]!.push({ name, shape, offset: sizes[bucket]! });
    sizes[bucket]! += size;
  }
  const byName = new Map<string, Trainable>();
  const buckets = plans.map((plan, i): Bucket => {
    const flat = (what: string, dtype: DType, host = false) =>
      new Tensor(`${what} ${i}`, [sizes[i]!], dtype, { resident: true, host });
    const values = flat("masters", masters, onHost.values);
    const gradients = flat("gradients", "f32", onHost.gradients);
    const copy = working === masters && !alwaysCopy ? undefined : flat("weights", working, onHost.copies);
    const tensors = plan.map(({ name, shape, offset }): Trainable => {
      const gradient = gradients.window(`grad ${name}`, offset, shape);
      const master = values.window(name, offset, shape, copy === undefined ? { gradient } : {});
      const working = copy?.window(name, offset, shape, { gradient }) ?? master;
      return { name, shape, trueShape: trueShapes.get(name) ?? shape, master, working };
    });
    for (const tensor of tensors) byName.set(tensor.name, tensor);
    return { values, gradients, copy, tensors };
  });
  return { buckets, byName };
}
