/**
 * Frozen weights stored in 8 or 4 bits: blocks of consecutive elements share a scale, and codes are packed into words.
 */
import { type DType, foldGrid, type Launch, THREADS } from "../core/kernel.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

/**
 * int8: codes are integers -127..127 times the scale. nf4: codes are indices of {@linkcode NF4_LEVELS}, times the
 * scale.
 */
export type QuantisedKind = "int8" | "nf4";

/** Quantiles of a normal distribution scaled to [-1, 1], with an exact zero (QLoRA, arXiv:2305.14314, appendix E). */
export const NF4_LEVELS: readonly number[] = [
  -1.0,
  -0.6961928009986877,
  -0.5250730514526367,
  -0.39491748809814453,
  -0.28444138169288635,
  -0.18477343022823334,
  -0.09105003625154495,
  0.0,
  0.07958029955625534,
  0.16093020141124725,
  0.24611230194568634,
  0.33791524171829224,
  0.44070982933044434,
  0.5626170039176941,
  0.7229568362236023,
  1.0,
];

/** Codes in one 32-bit word, the lowest bits first. */
export function codesPerWord(kind: QuantisedKind): number {
  return kind === "int8" ? 4 : 8;
}

/** Size of the result, and how many consecutive elements share a scale. */
export interface DequantiseShape {
  readonly elements: number;
  readonly block: number;
}

const bodies: Readonly<Record<QuantisedKind, string>> = {
  int8: `let word = load_codes(gid);
store_y(gid, factor * vec4f(${unroll(4, (i) => `f32(extractBits(i32(word), ${8 * i}u, 8u))`, ", ")}));`,
  nf4: `let word = load_codes(gid);
${
    unroll(2, (half) =>
      `store_y(gid * 2u + ${half}u, factor * vec4f(${
        unroll(4, (i) =>
          `level((word >> ${16 * half + 4 * i}u) & 15u)`, ", ")
      }));`)
  }`,
};

const LEVELS = `fn level(code: u32) -> f32 {
  var levels = array<f32, 16>(${NF4_LEVELS.join(", ")});
  return levels[code];
}`;

/**
 * y = scale of the block * code. Buffers: codes (u32), scales (one per block, padded to a multiple of four), y.
 *
 * @throws {RangeError} when elements are no multiple of the block, or the block is none of the codes in a word.
 */
export function dequantise(
  spec: { readonly kind: QuantisedKind; readonly scales: DType; readonly y: DType },
  { elements, block }: DequantiseShape,
): Launch {
  const { kind } = spec;
  const perWord = codesPerWord(kind);
  if (elements % block !== 0 || block % perWord !== 0) {
    throw new RangeError(
      `Cannot dequantise ${elements} elements in blocks of ${block}: whole blocks of a multiple of ${perWord} are needed`,
    );
  }
  const words = elements / perWord;
  return {
    kernel: buildKernel({
      name: "dequantise",
      spec: { ...spec },
      params: ["words", "words_per_block"],
      buffers: [
        { name: "codes", dtype: "u32" },
        { name: "scales", dtype: spec.scales },
        { name: "y", dtype: spec.y },
      ],
      workgroupSize: THREADS,
      declarations: kind === "nf4" ? LEVELS : "",
      body: `if (gid >= params.words) { return; }
let block = gid / params.words_per_block;
let factor = load_scales(block / 4u)[block % 4u];
${bodies[kind]}`,
    }),
    params: [words, block / perWord],
    grid: foldGrid(Math.ceil(words / THREADS)),
    flops: elements,
  };
}
