/**
 * Merging: W + strength * alpha / rank * B A, or the rows of that at strength 1 with other norms (DoRA), so that a
 * model carries a LoRA without a loader that could scale it wrongly.
 */
import { decodeF32, encodeF32, storageBytes, type StorageType } from "../../io/safetensors/half.ts";
import type { TensorSource } from "../../io/safetensors/safetensors.ts";
import type { LoraModule, LoraModules } from "./module.ts";
import type { TransformerTensor } from "../transformer/file.ts";

/** Bytes of a piece; a model is never held in host memory. */
const PIECE_BYTES = 16 * 2 ** 20;

/** What {@linkcode mergeLora} reports while it works. */
export interface MergeOptions {
  /** Factor on the LoRA's own scale. Default 1. */
  readonly strength?: number;
  /** Called when a layer is about to be merged. */
  readonly onLayer?: (layer: string) => void;
}

/**
 * The tensors of `base` with the updates added, to be streamed into `writeTransformer`. Sums are taken in f64 and
 * rounded once.
 *
 * @param base checked weights of the model the LoRA belongs to.
 * @param modules layers that `base` has; others are ignored.
 */
export function mergeLora(
  base: TensorSource,
  modules: LoraModules,
  { strength = 1, onLayer }: MergeOptions = {},
): TransformerTensor[] {
  return [...base.tensors].map(([name, { shape, dtype }]): TransformerTensor => {
    const stored = dtype.toLowerCase() as StorageType;
    const layer = name.replace(/\.weight$/, "");
    const module = name.endsWith(".weight") ? modules.get(layer) : undefined;
    if (module === undefined) return { name, shape, dtype: stored, data: () => pieces(base, name, PIECE_BYTES) };
    const rowBytes = module.inFeatures * storageBytes[stored];
    const rows = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
    return {
      name,
      shape,
      dtype: "f32",
      *data() {
        onLayer?.(layer);
        const add = updater(module, strength);
        let row = 0;
        for (const piece of pieces(base, name, rows * rowBytes)) {
          const values = decodeF32(piece, stored);
          add(values, row);
          row += rows;
          yield encodeF32(values, "f32");
        }
      },
    };
  });
}

/** Storage of every tensor as in `base`. */
export function storedTypes(base: TensorSource): Map<string, StorageType> {
  return new Map([...base.tensors].map(([name, { dtype }]) => [name, dtype.toLowerCase() as StorageType]));
}

function* pieces(source: TensorSource, name: string, bytes: number): Generator<Uint8Array<ArrayBuffer>> {
  const { byteLength } = source.tensors.get(name)!;
  for (let at = 0; at < byteLength; at += bytes) yield source.readBytes(name, at, Math.min(at + bytes, byteLength));
}

/** A function that adds the update to rows of the weight, from row `first` on. */
export function updater(
  { rank, inFeatures, alpha, down, up, magnitude }: LoraModule,
  strength: number,
): (rows: Float32Array, first: number) => void {
  const scale = (magnitude === undefined ? strength : 1) * alpha / rank;
  // Four rows of A at a time halve the loads and stores of the sum; zeros fill up a rank that is no multiple of four.
  const padded = Math.ceil(rank / 4) * 4;
  const a = new Float64Array(padded * inFeatures);
  a.set(down);
  const sum = new Float64Array(inFeatures);
  return (rows, first) => {
    for (let row = 0; row * inFeatures < rows.length; row++) {
      const target = rows.subarray(row * inFeatures, (row + 1) * inFeatures);
      sum.set(target);
      for (let r = 0; r < padded; r += 4) {
        const at = (first + row) * rank + r;
        const factor = (k: number) => r + k < rank ? scale * up[at + k]! : 0;
        const [f0, f1, f2, f3] = [factor(0), factor(1), factor(2), factor(3)];
        const [r0, r1, r2, r3] = [r * inFeatures, (r + 1) * inFeatures, (r + 2) * inFeatures, (r + 3) * inFeatures];
        for (let i = 0; i < inFeatures; i++) {
          sum[i]! += f0 * a[r0 + i]! + f1 * a[r1 + i]! + f2 * a[r2 + i]! + f3 * a[r3 + i]!;
        }
      }
      if (magnitude === undefined) target.set(sum);
      else {
        const factor = magnitude[first + row]! / Math.sqrt(sum.reduce((squares, value) => squares + value * value, 0));
        for (let i = 0; i < inFeatures; i++) target[i]! += strength * (factor * sum[i]! - target[i]!);
      }
    }
  };
}
