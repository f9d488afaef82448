/** Adam and AdamW over flat f32 buffers, and the norm clipping and overflow check that precede them. */
import { type BufferSpec, type DType, type Launch, type Target, THREADS, type Work } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { type Spread, SPREAD_PROBE, spreadGrid, SPREADS, spreadText } from "../core/spread.ts";
import { type Family, solve } from "../core/variants.ts";
import { hasSubgroups, laneSums } from "../reduce/lanes.ts";
import { sumSlots } from "../reduce/sums.ts";
import { buildKernel, NON_FINITE } from "../core/wgsl.ts";
import { WATCH } from "./watch.ts";

/**
 * The scalars that change from step to step, as uploaded: learning rate, learning rate / (1 - beta1^step),
 * 1 / sqrt(1 - beta2^step), 1 / loss scale. Computed in float64. `step` counts from 1.
 */
export function adamState(
  { learningRate, beta1, beta2, step, lossScale }: {
    readonly learningRate: number;
    readonly beta1: number;
    readonly beta2: number;
    readonly step: number;
    readonly lossScale: number;
  },
): Float32Array<ArrayBuffer> {
  return Float32Array.of(
    learningRate,
    learningRate / (1 - beta1 ** step),
    1 / Math.sqrt(1 - beta2 ** step),
    1 / lossScale,
  );
}

/**
 * control = [norm, coefficient, skip, broken]: norm of the unscaled gradient, min(1, maxNorm / (norm + 1e-6)) times the
 * inverse loss scale (what gradients are multiplied by), 1 where loss or sum of squares is NaN or infinite, else 0, and
 * 0, which the update may change (see `watch.ts`). `maxNorm` 0 switches clipping off. Buffers: partials (f32 [slots,
 * 4], of sumOfSquares), loss (f32 [4]), state (f32 [4], the last is the inverse loss scale), control (f32 [4]).
 */
export function clipControl(
  target: Target,
  shape: { readonly slots: number; readonly maxNorm: number },
): Launch {
  return {
    kernel: buildKernel({
      name: "clip_control",
      spec: { subgroups: hasSubgroups(target) },
      params: ["slots", "max_norm:f32"],
      buffers: ["partials", "loss", "state", "control"].map((name) => ({ name, dtype: "f32" })),
      workgroupSize: THREADS,
      declarations: `${NON_FINITE}\n${laneSums(target)}`,
      body: `${sumSlots()}
  if (li == 0u) {
    let inverse_scale = load_state(0u).w;
    let squares = dot(total, vec4f(1));
    let norm = sqrt(squares) * inverse_scale;
    let clip = select(1.0, min(1.0, params.max_norm / (norm + 1e-6)), params.max_norm > 0.0);
    let skip = select(0.0, 1.0, non_finite(vec4f(squares, load_loss(0u).x, 0, 0)));
    store_control(0u, vec4f(norm, clip * inverse_scale, skip, 0));
  }`,
    }),
    params: [shape.slots, shape.maxNorm],
    grid: [1, 1, 1],
    flops: 4 * shape.slots,
  };
}

/** Constants of one run and the length of the buffers. */
export interface AdamShape {
  readonly elements: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
}

/** Words of the params that {@linkcode adamText} reads besides `count4`. */
export const ADAM_WORDS: readonly string[] = [
  "beta1:f32",
  "rest1:f32",
  "beta2:f32",
  "rest2:f32",
  "eps:f32",
  "decay:f32",
];

/** Values of {@linkcode ADAM_WORDS}. */
export function adamWords({ beta1, beta2, eps, weightDecay }: AdamShape): number[] {
  return [beta1, 1 - beta1, beta2, 1 - beta2, eps, weightDecay];
}

/** A step with moments in f32; `store` puts `p - change` away at `at`. Needs {@linkcode WATCH}. */
export function adamText(kind: "adamw" | "adam", store: string, spread: Spread): string {
  const decayed = kind === "adam" ? " + params.decay * p" : "";
  const decay = kind === "adamw" ? " + state.x * params.decay * p" : "";
  return `
  let state = load_state(0u);
  let control = load_control(0u);
  if (control.z == 0.0) {
${
    spreadText(
      spread,
      `
        let p = load_parameters(at);
        let g = load_gradients(at) * control.y${decayed};
        let m = params.beta1 * load_moment1(at) + params.rest1 * g;
        let v = params.beta2 * load_moment2(at) + params.rest2 * g * g;
        let change = state.y * m / (sqrt(v) * state.z + params.eps)${decay};
        store_moment1(at, m);
        store_moment2(at, v);
        watch(m, control);
        watch(v, control);
        ${store}`,
    )
  }
  }`;
}

/** Rule, type of the gradients, and type of the working copy. */
export interface AdamSpec {
  readonly kind: "adamw" | "adam";
  readonly gradients: DType;
  readonly copy: DType | "none";
}

const MOMENTS = ["moment1", "moment2"] as const;

function buffersOf({ gradients, copy }: AdamSpec): BufferSpec[] {
  return [
    { name: "parameters", dtype: "f32" },
    { name: "gradients", dtype: gradients },
    ...[...MOMENTS, "state", "control"].map((name): BufferSpec => ({ name, dtype: "f32" })),
    ...(copy === "none" ? [] : [{ name: "copy", dtype: copy }]),
  ];
}

function launch(spec: AdamSpec, shape: AdamShape, spread: Spread): Launch {
  const count = fours("parameters", shape.elements);
  return {
    kernel: buildKernel({
      name: "adam",
      spec: { ...spec, threads: spread.threads, vectors: spread.vectors },
      params: ["count4", ...ADAM_WORDS],
      buffers: buffersOf(spec),
      workgroupSize: spread.threads,
      declarations: WATCH,
      body: adamText(
        spec.kind,
        `let q = p - change;
        store_parameters(at, q);
        watch(q, control);
        ${spec.copy === "none" ? "" : "store_copy(at, q);"}`,
        spread,
      ),
    }),
    params: [count, ...adamWords(shape)],
    grid: spreadGrid(spread, count),
    flops: 14 * shape.elements,
  };
}

/** The family of the steps. */
export const adamFamily: Family<AdamSpec, AdamShape> = {
  name: "adam",
  variants: SPREADS.map((spread) => ({
    name: spread.name,
    applies: () => true,
    work(_, spec, shape) {
      const writes = ["parameters", ...MOMENTS, "control", ...(spec.copy === "none" ? [] : ["copy"])];
      return { launches: [{ launch: launch(spec, shape, spread), writes }] };
    },
  })),
  prefer: () => SPREADS[0]!.name,
  twin: SPREADS[0]!.name,
  traits: (spec, { elements }) => ({ ...spec, elements }),
  operands(spec, { elements }) {
    const words: Readonly<Record<string, number>> = { state: 4, control: 4 };
    return Object.fromEntries(buffersOf(spec).map(({ name }) => [name, words[name] ?? elements]));
  },
  // Second moments are no less than 0, and a step is made where the third of `control` is 0.
  constants: { state: [1e-3, 2e-3, 3, 1], control: [1, 0.5, 0, 0], moment2: [0.25, 0.5, 1, 2] },
  probe: (shape) => ({ ...shape, elements: Math.min(shape.elements, SPREAD_PROBE) }),
};

/**
 * One step: m = b1 m + (1-b1) g, v = b2 v + (1-b2) g^2, p -= lr / (1-b1^k) * m / (sqrt(v / (1-b2^k)) + eps). Weight
 * decay is lr * wd * p taken off p (`adamw`) or wd * p added to g (`adam`). Nothing changes where control asks to skip.
 * Operands: parameters, gradients, moment1, moment2 (f32), state (see {@linkcode adamState}), control (see {@linkcode
 * clipControl}) and, with a working copy of the parameters, copy.
 */
export function adam(target: Target, spec: AdamSpec, shape: AdamShape): Work {
  return solve(adamFamily, target, spec, shape);
}
