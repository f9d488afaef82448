/** What the two bf16 roundings do to one number, on the host. */
import { rounded } from "../run.ts";

/** One step of Kahan's summation in f32, its sum and compensation stored in bf16. */
export function kahan(
  weight: number,
  compensation: number,
  change: number,
): { readonly sum: number; readonly compensation: number } {
  const y = Math.fround(compensation - change);
  const sum = rounded(Math.fround(weight + y), "bf16");
  return { sum, compensation: rounded(Math.fround(y - Math.fround(sum - weight)), "bf16") };
}

/** The hash pcg4d of four words. */
export function draw(key: readonly [number, number, number, number]): Uint32Array {
  const v = Uint32Array.from(key, (word) => Math.imul(word, 1664525) + 1013904223);
  const mix = () => {
    for (const [to, a, b] of [[0, 1, 3], [1, 2, 0], [2, 0, 1], [3, 1, 2]] as const) v[to]! += Math.imul(v[a]!, v[b]!);
  };
  mix();
  for (let i = 0; i < 4; i++) v[i]! ^= v[i]! >>> 16;
  mix();
  return v;
}

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The bf16 number below or above in magnitude: the upper half of `word` decides. */
export function roundedAtRandom(value: number, word: number): number {
  float[0] = value;
  bits[0] = (bits[0]! + (word >>> 16)) & 0xffff0000;
  return float[0]!;
}
