/** The named tensors of a model, and which of them train. */
import type { QuantisedKind } from "../../../kernels/matrix/dequantise.ts";
import type { DType } from "../../../kernels/core/kernel.ts";
import type { StorageType } from "../../io/safetensors/half.ts";
import type { Adapter, LinearWeights } from "../../ops/linear.ts";
import type { NormWeights } from "../../ops/layer_norm.ts";
import { Tensor } from "../../plan/tensor.ts";
import { quantisedTensor } from "../tensors/quantise.ts";

/** Named weights of one model, with adapters by the name of their linear layer (without `.weight`). */
export class Parameters {
  constructor(
    readonly tensors: ReadonlyMap<string, Tensor>,
    readonly adapters: ReadonlyMap<string, Adapter> = new Map(),
  ) {}

  /** The same, with a share of every adapter's input dropped as `key` says. */
  withDropout(rate: number, key: Tensor): Parameters {
    const adapters = [...this.adapters].map(([name, adapter], layer) => {
      return [name, { ...adapter, dropout: { rate, key, layer } }] as const;
    });
    return new Parameters(this.tensors, new Map(adapters));
  }

  /** A tensor that must exist. */
  get(name: string): Tensor {
    const tensor = this.tensors.get(name);
    if (tensor === undefined) throw new Error(`The model has no tensor "${name}"`);
    return tensor;
  }

  /** Weight, optional bias and optional adapter of a linear layer. */
  linear(name: string): LinearWeights {
    return {
      weight: this.get(`${name}.weight`),
      bias: this.tensors.get(`${name}.bias`),
      adapter: this.adapters.get(name),
    };
  }

  /** Scale and shift of a norm. */
  norm(name: string): NormWeights {
    return { gamma: this.get(`${name}.weight`), beta: this.get(`${name}.bias`) };
  }
}

/** How a model's tensors are declared. */
export interface DeclareOptions {
  /** Storage of matrices (two or more dimensions). */
  readonly matrix: DType;
  /** Storage of vectors (biases and norms), which are too small to be worth rounding. */
  readonly vector: DType;
  /** Every parameter trains: each gets an f32 gradient. */
  readonly trainable?: boolean;
  /** Matrices live in host memory and are copied to the GPU block by block. */
  readonly streamed?: boolean;
  /**
   * Matrices of the blocks are stored in 8 or 4 bits; the few others are small, and the first and last layers
   * sensitive.
   */
  readonly quantised?: QuantisedKind;
}

/** Shapes as the GPU stores them: a convolution's kernel axes are folded into its last dimension. */
export function foldedShapes(shapes: ReadonlyMap<string, readonly number[]>): Map<string, readonly number[]> {
  const fold = (shape: readonly number[]) =>
    shape.length > 2 ? [shape[0]!, shape.slice(1).reduce((a, b) => a * b, 1)] : shape;
  return new Map([...shapes].map(([name, shape]) => [name, fold(shape)]));
}

/** Declares resident tensors for named shapes, folded as {@linkcode foldedShapes} does. */
export function declareTensors(
  shapes: ReadonlyMap<string, readonly number[]>,
  { matrix, vector, trainable = false, streamed = false, quantised }: DeclareOptions,
): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const [name, shape] of foldedShapes(shapes)) {
    const dtype = shape.length > 1 ? matrix : vector;
    if (quantised !== undefined && shape.length > 1 && name.startsWith("transformer_blocks.")) {
      tensors.set(name, quantisedTensor(name, shape, matrix as StorageType, quantised));
      continue;
    }
    const gradient = trainable ? new Tensor(`grad ${name}`, shape, "f32", { resident: true }) : undefined;
    const host = streamed && shape.length > 1;
    tensors.set(name, new Tensor(name, shape, dtype, { resident: true, host, ...(gradient ? { gradient } : {}) }));
  }
  return tensors;
}
