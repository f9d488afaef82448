/**
 * Adam and AdamW over weights that are stored in bf16 alone. An update is usually smaller than half the distance to the
 * next bf16 number, so rounding to nearest would lose it. Either the rounding error is kept in a second bf16 buffer and
 * added to the next update (Kahan summation), or the sum is rounded up or down at random with probabilities that make
 * the mean exact.
 *
 * A compensation has 8 bits and rounds as well: 1000 equal updates of about a hundredth of the spacing of bf16 numbers
 * were measured to end up to 9% of their way off, by 1.4e-3 of the weights in root mean square.
 */
import { type BufferSpec, type Launch, THREADS } from "../core/kernel.ts";
import { DRAW } from "../core/draw.ts";
import { fours } from "../core/fours.ts";
import { spreadGrid, SPREADS } from "../core/spread.ts";
import { ADAM_WORDS, type AdamShape, adamText, adamWords } from "./adam.ts";
import { buildKernel } from "../core/wgsl.ts";
import { WATCH } from "./watch.ts";

const SPREAD = SPREADS[0]!;

/** How the sum of a weight and its update becomes a bf16 number. */
export type Bf16Rounding = "kahan" | "stochastic";

/** What stochastic rounding draws from, as uploaded: seed and number of the applied update; two words of padding. */
export function drawKey({ seed, step }: { readonly seed: number; readonly step: number }): Uint32Array<ArrayBuffer> {
  return Uint32Array.of(seed, step, 0, 0);
}

/**
 * The draw is a hash of place, update, seed and bucket, one word for each of four elements; its upper half is the
 * better one. Added below the place where a bf16 number ends, it carries into it with the probability of the part cut
 * off. Infinity and NaN would change by a carry and are left to the store.
 */
const STOCHASTIC = `${DRAW}
fn round_at_random(v: vec4f, key: vec4u) -> vec4f {
  let b = bitcast<vec4u>(v);
  let rounded = (b + (draw(key) >> vec4u(16u))) & vec4u(0xffff0000u);
  return bitcast<vec4f>(select(rounded, b, (b & vec4u(0x7f800000u)) == vec4u(0x7f800000u)));
}`;

/** Text that stores `p - change`, by rounding. */
const stores: Readonly<Record<Bf16Rounding, string>> = {
  kahan: `let y = load_compensation(at) - change;
        let t = from_bf16(to_bf16(p + y));
        let rest = y - (t - p);
        store_parameters(at, t);
        store_compensation(at, rest);
        watch(t, control);
        watch(rest, control);`,
  stochastic: `let t = round_at_random(p - change, vec4u(at, update, seed, params.bucket));
        store_parameters(at, t);
        watch(t, control);`,
};

/**
 * One step of {@linkcode AdamShape}, the arithmetic in f32. `bucket` tells flat buffers of one run apart, so that their
 * draws differ. Nothing changes where control asks to skip. Buffers: parameters (bf16), gradients, m, v (f32), state,
 * control (see `adamState` and `clipControl`), then with `kahan` the compensation (bf16, zero at the start: what the
 * parameters lack of the exact sum), with `stochastic` the key (u32 [4], see {@linkcode drawKey}).
 */
export function adamBf16(
  spec: { readonly kind: "adamw" | "adam"; readonly rounding: Bf16Rounding },
  shape: AdamShape & { readonly bucket: number },
): Launch {
  const count = fours("parameters", shape.elements);
  const kahan = spec.rounding === "kahan";
  const buffers: BufferSpec[] = [
    { name: "parameters", dtype: "bf16" },
    ...["gradients", "moment1", "moment2", "state", "control"].map((name) => ({ name, dtype: "f32" }) as const),
    kahan ? { name: "compensation", dtype: "bf16" } : { name: "key", dtype: "u32" },
  ];
  return {
    kernel: buildKernel({
      name: "adam_bf16",
      spec: { ...spec },
      params: ["count4", "bucket", ...ADAM_WORDS],
      buffers,
      workgroupSize: THREADS,
      declarations: kahan ? WATCH : `${STOCHASTIC}\n${WATCH}`,
      body: `${kahan ? "" : "  let seed = load_key(0u);\n  let update = load_key(1u);"}${
        adamText(spec.kind, stores[spec.rounding], SPREAD)
      }`,
    }),
    params: [count, shape.bucket, ...adamWords(shape)],
    grid: spreadGrid(SPREAD, count),
    flops: (kahan ? 17 : 14) * shape.elements,
  };
}
