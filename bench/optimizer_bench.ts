/** `deno bench -A bench/optimizer_bench.ts`: optimizer updates, by the bytes they have to read and write. */
import { adam, adamState } from "../kernels/optimizer/adam.ts";
import { adamw8bit, quantisedMoments } from "../kernels/optimizer/adam_8bit.ts";
import { movingAverage } from "../kernels/optimizer/average.ts";
import { squareSlots, sumOfSquares } from "../kernels/reduce/sums.ts";
import { randomBytes } from "./harness.ts";
import { benchLaunches, type Entry } from "./suite.ts";

/** A fifth of the adapters that rank 128 on attention adds to CogVideoX 2b. */
const ELEMENTS = 3 * 2 ** 20;

const shape = { elements: ELEMENTS, beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 1e-4 };
const bytes = (array: Float32Array<ArrayBuffer>) => new Uint8Array(array.buffer);
const values = () => randomBytes(ELEMENTS, "f32");
const state = () => bytes(adamState({ learningRate: 1e-4, beta1: 0.9, beta2: 0.95, step: 10, lossScale: 1 }));
/** Norm, factor of the gradient, whether to skip. */
const control = () => bytes(Float32Array.of(0, 1, 0, 0));

const { words, scales } = quantisedMoments(ELEMENTS);

const entries: Entry[] = [
  {
    group: "gradient norm",
    name: "f32",
    bytes: 4 * ELEMENTS,
    launch: (target) => sumOfSquares(target, { x: "f32" }, { elements: ELEMENTS, slot: 0 }),
    contents: () => [values(), 4 * squareSlots(ELEMENTS)],
  },
  ...(["none", "bf16"] as const).map((copy): Entry => ({
    group: "AdamW",
    name: copy === "none" ? "f32" : `f32, ${copy} working copy`,
    // Parameters and both moments are read and written, gradients read, working copies written.
    bytes: (copy === "none" ? 28 : 30) * ELEMENTS,
    launch: (target) => adam(target, { kind: "adamw", gradients: "f32", copy }, shape),
    contents:
      () => [values(), values(), ELEMENTS, ELEMENTS, state(), control(), ...(copy === "none" ? [] : [ELEMENTS])],
  })),
  {
    group: "AdamW",
    name: "8-bit moments",
    bytes: 16 * ELEMENTS,
    launch: (target) => adamw8bit(target, { gradients: "f32", copy: "none" }, shape),
    contents: () => [values(), values(), words, words, scales, state(), control()],
  },
  {
    group: "moving average",
    name: "f32",
    bytes: 12 * ELEMENTS,
    launch: () => movingAverage({ elements: ELEMENTS, decay: 0.999 }),
    contents: () => [values(), values(), control()],
  },
];

await benchLaunches(entries);
