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
  const outFeatures = b.length / rank;
  const columns = new Float32Array(b.length);
  for (let row = 0; row < outFeatures; row++) {
    for (let i = 0; i < rank; i++) columns[i * outFeatures + row] = b[row * rank + i]!;
  }
  const [gramA, gramB] = [gram(a, rank), gram(columns, rank)];
  let square = 0;
  for (let i = 0; i < rank; i++) {
    for (let j = 0; j <= i; j++) square += (i === j ? 1 : 2) * gramA[i * rank + j]! * gramB[i * rank + j]!;
  }
  // Rounding can leave a tiny negative sum; NaN must stay NaN, which Math.max would keep too.
  return Math.sqrt(Math.max(0, square));
}

/**
 * Products of the rows of `x` with each other, where j <= i. Two rows with two at a time take half the time of one with
 * one (ranks 64 and 128, 3072 columns): sums wait for each other less.
 */
function gram(x: Float32Array, rows: number): Float64Array {
  const width = x.length / rows;
  const products = new Float64Array(rows * rows);
  for (let i = 0; i < rows; i += 2) {
    // The last of an odd number of rows meets itself again.
    const below = Math.min(i + 1, rows - 1);
    for (let j = 0; j <= i; j += 2) {
      const beside = Math.min(j + 1, rows - 1);
      let s00 = 0;
      let s01 = 0;
      let s10 = 0;
      let s11 = 0;
      for (let k = 0; k < width; k++) {
        const p = x[i * width + k]!;
        const q = x[below * width + k]!;
        const r = x[j * width + k]!;
        const s = x[beside * width + k]!;
        s00 += p * r;
        s01 += p * s;
        s10 += q * r;
        s11 += q * s;
      }
      products[i * rows + j] = s00;
      products[i * rows + beside] = s01;
      products[below * rows + j] = s10;
      products[below * rows + beside] = s11;
    }
  }
  return products;
}

/** The value most modules share, which a file states once; the rest are listed as exceptions. */
export function commonValue(values: Iterable<number>): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const [first] = [...counts].sort(([, a], [, b]) => b - a);
  if (first === undefined) throw new RangeError("No modules, so no common value");
  return first[0];
}
