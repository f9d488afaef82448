/**
 * Rounds frozen weights to 8 or 4 bits with a scale per block, the largest magnitude of the block (absmax
 * quantisation).
 */
import { codesPerWord, NF4_LEVELS, type QuantisedKind } from "../../../kernels/matrix/dequantise.ts";
import { Tensor } from "../../plan/tensor.ts";

/** Elements that share a scale in nf4; int8 has one scale per row. */
const NF4_BLOCK = 64;

/** Values of whole blocks as the GPU stores them. */
export interface QuantisedValues {
  readonly codes: Uint32Array<ArrayBuffer>;
  /** One per block; representable in the storage type of the scales. */
  readonly scales: Float32Array<ArrayBuffer>;
}

/** Midpoints between neighbouring levels: a value belongs to the level whose two midpoints enclose it. */
const NF4_BOUNDS = NF4_LEVELS.slice(1).map((level, i) => (level + NF4_LEVELS[i]!) / 2);

function nf4Code(value: number): number {
  let [low, high] = [0, NF4_BOUNDS.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (value > NF4_BOUNDS[middle]!) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Quantises whole blocks. */
export function quantise(kind: QuantisedKind, values: Float32Array, block: number): QuantisedValues {
  const perWord = codesPerWord(kind);
  const bits = 32 / perWord;
  const codes = new Uint32Array(values.length / perWord);
  const scales = new Float32Array(values.length / block);
  for (let b = 0; b < scales.length; b++) {
    let largest = 0;
    for (let i = b * block; i < (b + 1) * block; i++) largest = Math.max(largest, Math.abs(values[i]!));
    const scale = kind === "int8" ? Math.fround(largest / 127) : Math.f16round(largest);
    scales[b] = scale;
    for (let i = b * block; i < (b + 1) * block; i++) {
      const value = scale === 0 ? 0 : values[i]! / scale;
      const code = kind === "int8" ? Math.max(-127, Math.min(127, Math.round(value))) & 255 : nf4Code(value);
      codes[Math.floor(i / perWord)]! |= code << (i % perWord * bits);
    }
  }
  return { codes, scales };
}

/** Declares a frozen matrix that lives quantised on the GPU; launches read it as `dtype`. */
export function quantisedTensor(
  name: string,
  shape: readonly number[],
  dtype: "f32" | "f16" | "bf16",
  kind: QuantisedKind,
): Tensor {
  const elements = shape.reduce((product, length) => product * length, 1);
  const block = kind === "int8" ? shape[shape.length - 1]! : NF4_BLOCK;
  const blocks = Math.ceil(elements / block / 4) * 4;
  const resident = { resident: true };
  return new Tensor(name, shape, dtype, {
    ...resident,
    quantised: {
      kind,
      block,
      codes: new Tensor(`${name} codes`, [elements / codesPerWord(kind)], "u32", resident),
      scales: new Tensor(`${name} scales`, [blocks], kind === "int8" ? "f32" : "f16", resident),
    },
  });
}
