/** A tensor is a shape, a storage type and a place that is decided later; it holds no data. */
import type { QuantisedKind } from "../../kernels/matrix/dequantise.ts";
import { bytesOf, type DType } from "../../kernels/core/kernel.ts";

/** Offsets of bindings are multiples of this on every WebGPU device. */
export const ALIGNMENT = 256;

/** Rounds bytes up to the binding alignment. */
export function align(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Number of elements of a shape. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1);
}

/** How a frozen tensor is stored in fewer bits: the tensors that hold it, and how many elements share a scale. */
export interface Quantised {
  readonly kind: QuantisedKind;
  readonly block: number;
  readonly codes: Tensor;
  readonly scales: Tensor;
}

/** What a tensor is made with besides its shape. */
export interface TensorOptions {
  /** Lives outside the plan: weights, gradients, optimizer state, inputs, results. */
  readonly resident?: boolean;
  /**
   * Lives in host memory, and outside the plan like a resident tensor: plans copy it to the GPU where a launch reads
   * it, and back where one changed it.
   */
  readonly host?: boolean;
  /** Has no memory of its own: plans widen it into a transient where a launch reads it. */
  readonly quantised?: Quantised;
  /** Where the gradient of a trainable tensor is summed: f32, resident, of the same shape. */
  readonly gradient?: Tensor;
  /** A gradient is wanted although nothing trainable lies before it (tests ask for the gradient of an input). */
  readonly needsGrad?: boolean;
}

/** Shape, storage type and lifetime class of one array. Rows (the last dimension) are multiples of four elements. */
export class Tensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly resident: boolean;
  readonly host: boolean;
  readonly quantised: Quantised | undefined;
  readonly gradient: Tensor | undefined;
  readonly needsGrad: boolean;
  /** The tensor whose memory this one is a window of, and where it begins there. */
  readonly base: Tensor | undefined;
  readonly byteOffset: number;

  constructor(
    name: string,
    shape: readonly number[],
    dtype: DType,
    options: TensorOptions & { base?: Tensor; byteOffset?: number } = {},
  ) {
    if (elements(shape) % 4 !== 0) {
      throw new RangeError(`Cannot make "${name}" as its element count must be a multiple of 4: shape is [${shape}]`);
    }
    this.name = name;
    this.shape = shape;
    this.dtype = dtype;
    this.host = options.base?.host ?? options.host ?? false;
    this.quantised = options.quantised;
    this.resident = this.host || (options.base?.resident ?? options.resident ?? false);
    this.gradient = options.gradient;
    this.needsGrad = options.needsGrad ?? options.gradient !== undefined;
    this.base = options.base;
    this.byteOffset = options.byteOffset ?? 0;
  }

  /** Number of elements. */
  get size(): number {
    return elements(this.shape);
  }

  /** Bytes of the data itself. */
  get bytes(): number {
    return this.size * bytesOf(this.dtype);
  }

  /** Length of the last dimension. */
  get width(): number {
    return this.shape[this.shape.length - 1]!;
  }

  /** Product of all dimensions but the last. */
  get rows(): number {
    return this.size / this.width;
  }

  /** The tensor that owns the memory: itself unless it is a window. */
  get owner(): Tensor {
    return this.base ?? this;
  }

  /**
   * A window of this tensor's memory starting at element `offset`.
   *
   * @throws {RangeError} when the window leaves the tensor or starts off the binding alignment.
   */
  window(name: string, offset: number, shape: readonly number[], options: TensorOptions = {}): Tensor {
    const byteOffset = this.byteOffset + offset * bytesOf(this.dtype);
    if (offset + elements(shape) > this.size || byteOffset % ALIGNMENT !== 0) {
      throw new RangeError(
        `Cannot take window "${name}" [${shape}] of "${this.name}" [${this.shape}] at element ${offset}: ` +
          `it must lie inside and start at a multiple of ${ALIGNMENT} bytes`,
      );
    }
    return new Tensor(name, shape, this.dtype, { ...options, base: this.owner, byteOffset });
  }

  /** The same memory under another shape of equally many elements; gradients do not follow. */
  reshape(shape: readonly number[]): Tensor {
    if (elements(shape) !== this.size) {
      throw new RangeError(`Cannot view "${this.name}" [${this.shape}] as [${shape}]: element counts differ`);
    }
    return new Tensor(this.name, shape, this.dtype, { base: this.owner, byteOffset: this.byteOffset });
  }
}
