/**
 * Merging: W + strength * alpha / rank * B A, or the rows of that at strength 1 with other norms (DoRA), so that a
 * model carries a LoRA without a loader that could scale it wrongly.
 */
import { decodeF32, encodeF32, floatBytes, floatType, storageOf, type StorageType } from "../../io/safetensors/half.ts";
import type { TensorSource } from "../../io/safetensors/safetensors.ts";
import type { LoraModule, LoraModules } from "./module.ts";
import type { TransformerTensor } from "../transformer/file.ts";

/** Bytes of a piece; a model is never held in host memory. */
const PIECE_BYTES = 16 * 2 ** 20;

/** Updates by layer, and the factor on their own scale. */
export interface ScaledLora {
  readonly modules: LoraModules;
  readonly strength: number;
}

/** What {@linkcode mergeLora} reports while it works. */
export interface MergeOptions {
  /** Factor on the LoRA's own scale. Default 1. */
  readonly strength?: number;
  /** Called when a layer is about to be merged. */
  readonly onLayer?: (layer: string) => void;
}

/**
 * The weights of `base` with LoRAs added as they are read. Sums are taken in f64 and rounded once; changed weights read
 * as F32. Of several LoRAs each adds what it would change alone, as adapters beside the weights do.
 *
 * @param base checked weights of the model the LoRAs belong to; it stays open as long as the result is in use.
 * @param loras layers that `base` has; others are ignored.
 */
export function mergedSource(base: TensorSource, loras: readonly ScaledLora[]): TensorSource {
  const updates = (name: string) =>
    loras.flatMap(({ modules, strength }) => {
      const module = name.endsWith(".weight") ? modules.get(name.slice(0, -".weight".length)) : undefined;
      return module === undefined ? [] : [{ module, strength }];
    });
  const changed = new Map(
    [...base.tensors.keys()].map((name) => [name, updates(name)] as const)
      .filter(([, all]) => all.length > 0),
  );
  // Weights are read in pieces, one after the other, and an updater holds its A in f64.
  let last: { readonly name: string; readonly add: RowUpdate[] } | undefined;
  const mergedRows = (name: string, first: number, count: number): Float32Array<ArrayBuffer> => {
    const all = changed.get(name)!;
    if (last?.name !== name) last = { name, add: all.map(({ module, strength }) => updater(module, strength)) };
    const { dtype } = base.tensors.get(name)!;
    const type = floatType(dtype)!;
    const rowBytes = all[0]!.module.inFeatures * floatBytes(type);
    const rows = decodeF32(base.readBytes(name, first * rowBytes, (first + count) * rowBytes), type).slice();
    if (last.add.length === 1) {
      last.add[0]!(rows, first);
      return rows;
    }
    const sum = Float64Array.from(rows);
    for (const add of last.add) {
      const own = rows.slice();
      add(own, first);
      for (let i = 0; i < sum.length; i++) sum[i]! += own[i]! - rows[i]!;
    }
    return Float32Array.from(sum);
  };
  const readBytes = (name: string, begin = 0, end = tensors.get(name)?.byteLength ?? 0): Uint8Array<ArrayBuffer> => {
    const all = changed.get(name);
    if (all === undefined) return base.readBytes(name, begin, end);
    const rowBytes = 4 * all[0]!.module.inFeatures;
    const first = Math.floor(begin / rowBytes);
    const rows = mergedRows(name, first, Math.ceil(end / rowBytes) - first);
    return new Uint8Array(rows.buffer, begin - first * rowBytes, end - begin);
  };
  const tensors = new Map([...base.tensors].map(([name, info]) => {
    if (!changed.has(name)) return [name, info];
    return [name, { ...info, dtype: "F32" as const, byteLength: 4 * info.shape.reduce((a, b) => a * b, 1) }];
  }));
  return {
    tensors,
    readBytes,
    readInto: (name, target, begin = 0) => target.set(readBytes(name, begin, begin + target.length)),
    readF32: (name) => changed.has(name) ? decodeF32(readBytes(name), "f32") : base.readF32(name),
    [Symbol.dispose]: () => {},
  };
}

/**
 * The tensors of `base` with the updates added, to be streamed into `writeTransformer`.
 *
 * @param base checked weights of the model the LoRA belongs to.
 * @param modules layers that `base` has; others are ignored.
 */
export function mergeLora(
  base: TensorSource,
  modules: LoraModules,
  { strength = 1, onLayer }: MergeOptions = {},
): TransformerTensor[] {
  const source = mergedSource(base, [{ modules, strength }]);
  return [...source.tensors].map(([name, { shape, dtype }]): TransformerTensor => {
    const layer = name.replace(/\.weight$/, "");
    const module = name.endsWith(".weight") ? modules.get(layer) : undefined;
    const type = floatType(dtype)!;
    const rowBytes = floatBytes(type) * (module?.inFeatures ?? 1);
    const bytes = Math.max(1, Math.floor(PIECE_BYTES / rowBytes)) * rowBytes;
    const isStorage = type === storageOf(dtype);
    return {
      name,
      shape,
      dtype: isStorage ? storageOf(dtype) : "f32",
      *data() {
        if (module !== undefined) onLayer?.(layer);
        for (const piece of pieces(source, name, bytes)) {
          yield isStorage ? piece : encodeF32(decodeF32(piece, type), "f32");
        }
      },
    };
  });
}

/** Storage of every tensor as in `base`. */
export function storedTypes(base: TensorSource): Map<string, StorageType> {
  return new Map([...base.tensors].map(([name, { dtype }]) => [name, storageOf(dtype)]));
}

function* pieces(source: TensorSource, name: string, bytes: number): Generator<Uint8Array<ArrayBuffer>> {
  const { byteLength } = source.tensors.get(name)!;
  for (let at = 0; at < byteLength; at += bytes) yield source.readBytes(name, at, Math.min(at + bytes, byteLength));
}

/** Adds an update to rows of a weight, from row `first` on. */
type RowUpdate = (rows: Float32Array, first: number) => void;

/** A function that adds the update to rows of the weight, from row `first` on. */
export function updater(
  { rank, inFeatures, alpha, down, up, magnitude }: LoraModule,
  strength: number,
): RowUpdate {
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
        const norm = Math.sqrt(sum.reduce((squares, value) => squares + value * value, 0));
        // A row of zeros has no direction to stretch, and stays one.
        const factor = norm === 0 ? 0 : magnitude[first + row]! / norm;
        for (let i = 0; i < inFeatures; i++) target[i]! += strength * (factor * sum[i]! - target[i]!);
      }
    }
  };
}
