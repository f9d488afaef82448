/** One low-rank update W + (alpha / rank) B A of a linear layer, on the host, whatever file it came from. */
import type { LoraValues } from "./adapters.ts";

/** An update of one layer. */
export interface LoraModule {
  /** Rows of A and columns of B. */
  readonly rank: number;
  /** Columns of the layer's weight; for a convolution input channels x kernel rows x kernel columns. */
  readonly inFeatures: number;
  /** Rows of the layer's weight. */
  readonly outFeatures: number;
  /** Rows and columns of the kernel of a convolution. */
  readonly kernel?: readonly [number, number] | undefined;
  /** The update counts alpha / rank times. */
  readonly alpha: number;
  /** A [rank, in]. */
  readonly down: Float32Array<ArrayBuffer>;
  /** B [out, rank]. */
  readonly up: Float32Array<ArrayBuffer>;
  /** Norms [out] that the rows of W + (alpha / rank) B A are given (DoRA). */
  readonly magnitude?: Float32Array<ArrayBuffer> | undefined;
}

/** Updates by layer name, as `transformer_blocks.0.attn1.to_q`. */
export type LoraModules = ReadonlyMap<string, LoraModule>;

/**
 * Pairs values as training holds them.
 *
 * @param alphaOf alpha of a layer. @param shapes shape of every `LAYER.weight` of the base model; the rank of a layer
 * follows from it.
 * @throws {TypeError} when a layer is unknown or has only one half; {RangeError} when a length does not fit.
 */
export function loraModules(
  values: LoraValues,
  alphaOf: (layer: string) => number,
  shapes: ReadonlyMap<string, readonly number[]>,
): LoraModules {
  const modules = new Map<string, LoraModule>();
  for (const [name, down] of values) {
    if (!name.endsWith(".lora_A.weight")) continue;
    const layer = name.replace(/\.lora_A\.weight$/, "");
    const up = values.get(`${layer}.lora_B.weight`);
    const shape = shapes.get(`${layer}.weight`);
    if (up === undefined || shape === undefined) {
      throw new TypeError(`"${name}" is no half of a pair LAYER.lora_A.weight, LAYER.lora_B.weight of this model`);
    }
    const outFeatures = shape[0]!;
    const inFeatures = shape.slice(1).reduce((a, b) => a * b, 1);
    const rank = down.length / inFeatures;
    if (!Number.isInteger(rank) || rank < 1 || up.length !== rank * outFeatures) {
      throw new RangeError(
        `"${layer}" [${shape}]: A has ${down.length} and B ${up.length} values, which is no common rank`,
      );
    }
    modules.set(layer, {
      rank,
      inFeatures,
      outFeatures,
      alpha: alphaOf(layer),
      down,
      up,
      magnitude: values.get(`${layer}.lora_magnitude_vector`),
    });
  }
  const counted = [...modules.values()].reduce((sum, { magnitude }) => sum + (magnitude === undefined ? 2 : 3), 0);
  if (values.size !== counted) {
    throw new TypeError(`${values.size} tensors are not ${modules.size} pairs of lora_A and lora_B`);
  }
  return modules;
}

/** The reverse of {@linkcode loraModules}: values by `LAYER.lora_A.weight` and `LAYER.lora_B.weight`. */
export function loraValues(modules: LoraModules): LoraValues {
  const values = new Map<string, Float32Array<ArrayBuffer>>();
  for (const [layer, { down, up, magnitude }] of modules) {
    values.set(`${layer}.lora_A.weight`, down).set(`${layer}.lora_B.weight`, up);
    if (magnitude !== undefined) values.set(`${layer}.lora_magnitude_vector`, magnitude);
  }
  return values;
}

/** Norm of the change an update makes, |alpha / rank| * |B A| (Frobenius). */
export function updateNorm({ rank, alpha, down, up }: LoraModule): number {
  return Math.abs(alpha / rank) * productNorm(down, up, rank);
}

/**
 * Frobenius norm of B A without the product: the sum over (A A^T) and (B^T B), both rank x rank, element by element.
 *
 * @param a A [rank, in]. @param b B [out, rank].
 */
export function productNorm(a: Float32Array, b: Float32Array, rank: number): number {
  const [inFeatures, outFeatures] = [a.length / rank, b.length / rank];
  const gramB = new Float64Array(rank * rank);
  for (let row = 0; row < outFeatures; row++) {
    const start = row * rank;
    for (let i = 0; i < rank; i++) {
      const factor = b[start + i]!;
      for (let j = 0; j <= i; j++) gramB[i * rank + j]! += factor * b[start + j]!;
    }
  }
  let square = 0;
  for (let i = 0; i < rank; i++) {
    for (let j = 0; j <= i; j++) {
      let dot = 0;
      for (let k = 0; k < inFeatures; k++) dot += a[i * inFeatures + k]! * a[j * inFeatures + k]!;
      square += (i === j ? 1 : 2) * dot * gramB[i * rank + j]!;
    }
  }
  // Rounding can leave a tiny negative sum; NaN must stay NaN, which Math.max would keep too.
  return Math.sqrt(Math.max(0, square));
}

/** The value most modules share, which a file states once; the rest are listed as exceptions. */
export function commonValue(values: Iterable<number>): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const [first] = [...counts].sort(([, a], [, b]) => b - a);
  if (first === undefined) throw new RangeError("No modules, so no common value");
  return first[0];
}
