/**
 * Prodigy (arXiv:2306.06101): Adam whose step size is an estimate d of the distance to the solution, learnt from the
 * gradients. Three launches per step: moments and sums, the estimate, the update.
 */
import { type BufferSpec, type DType, foldGrid, type Launch, type Target, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { hasSubgroups, laneSums, sumWorkgroup } from "../reduce/lanes.ts";
import { sumSlots } from "../reduce/sums.ts";
import { buildKernel } from "../core/wgsl.ts";
import { WATCH } from "./watch.ts";

/** The first estimate of the distance. */
const PRODIGY_FIRST_DISTANCE = 1e-6;

/**
 * What the distance tensor holds before the first step: d, numerator, step size of the step under way (0: no step), 0.
 */
export function prodigyDistanceStart(): Float32Array<ArrayBuffer> {
  return Float32Array.of(PRODIGY_FIRST_DISTANCE, 0, 0, 0);
}

/**
 * The scalars uploaded for a step: learning rate, learning rate times bias correction, 0, 1 / loss scale. `step` counts
 * from 1.
 */
export function prodigyState(
  { learningRate, beta1, beta2, step, lossScale, biasCorrection }: {
    readonly learningRate: number;
    readonly beta1: number;
    readonly beta2: number;
    readonly step: number;
    readonly lossScale: number;
    readonly biasCorrection: boolean;
  },
): Float32Array<ArrayBuffer> {
  const correction = biasCorrection ? Math.sqrt(1 - beta2 ** step) / (1 - beta1 ** step) : 1;
  return Float32Array.of(learningRate, learningRate * correction, 0, 1 / lossScale);
}

/** Constants of a run and the length of one flat buffer. */
export interface ProdigyShape {
  readonly elements: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly beta3: number;
  readonly eps: number;
  readonly weightDecay: number;
}

/** Options that change the text. */
export interface ProdigySpec {
  readonly gradients: DType;
  /** Working copy of the parameters, or none. */
  readonly copy: DType | "none";
  /** Weight decay shrinks the parameter instead of being added to the gradient. */
  readonly decouple: boolean;
  /** The denominator grows with d instead of the step size, which keeps a warm-up from inflating the estimate. */
  readonly safeguard: boolean;
}

/** Vectors per thread. */
const UNROLL = 16;

/** Slots (of four f32) that one buffer of `elements` parameters fills. */
export function prodigySlots(elements: number): number {
  return Math.ceil(fours("parameters", elements) / (THREADS * UNROLL));
}

/** A step with learning rate 0 or a non-finite gradient touches nothing. */
const ACTIVE = `
  let state = load_state(0u);
  let control = load_control(0u);
  let moving = control.z == 0.0 && state.x > 0.0;
  let distance = load_distance(0u);`;

/**
 * First launch: m = b1 m + d (1-b1) g, v = b2 v + d^2 (1-b2) g^2, s = b3 s + (d/d0) dlr g, and the partial sums of
 * (d/d0) dlr <g, p0 - p> and |s|, written from slot `slot` on. `offset` holds p0 - p: kept on its own it has all its
 * digits, where the difference of two parameters would have none in the first steps. Buffers: parameters, gradients,
 * offset, moment1, moment2, sums (s), state, control, distance, partials (f32 [slots, 4]).
 */
export function prodigyMoments(
  target: Target,
  spec: ProdigySpec,
  shape: ProdigyShape & { readonly slot: number },
): Launch {
  const { gradients, decouple, safeguard } = spec;
  const flat = ["offset", "moment1", "moment2", "sums", "state", "control", "distance", "partials"];
  return {
    kernel: buildKernel({
      name: "prodigy_moments",
      spec: { gradients, decouple, safeguard, subgroups: hasSubgroups(target) },
      params: [
        "count4",
        "slot",
        "beta1:f32",
        "rest1:f32",
        "beta2:f32",
        "rest2:f32",
        "beta3:f32",
        "decay:f32",
        "d0:f32",
      ],
      buffers: [
        { name: "parameters", dtype: "f32" },
        { name: "gradients", dtype: gradients },
        ...flat.map((name) => ({ name, dtype: "f32" as const })),
      ],
      workgroupSize: THREADS,
      declarations: `${laneSums(target)}\n${WATCH}`,
      body: `${ACTIVE}
  let d = distance.x;
  let rate = d / params.d0 * d * state.y;
  let growth = ${safeguard ? "d / params.d0 * d" : "rate"};
  var numerator = vec4f(0);
  var denominator = vec4f(0);
  for (var i = 0u; i < ${UNROLL}u; i++) {
    let at = wg * ${THREADS * UNROLL}u + i * ${THREADS}u + li;
    if (moving && at < params.count4) {
      let g = load_gradients(at) * control.y${decouple ? "" : " + params.decay * load_parameters(at)"};
      numerator = numerator + g * load_offset(at);
      let m = params.beta1 * load_moment1(at) + d * params.rest1 * g;
      let v = params.beta2 * load_moment2(at) + d * d * params.rest2 * g * g;
      store_moment1(at, m);
      store_moment2(at, v);
      let s = params.beta3 * load_sums(at) + growth * g;
      denominator = denominator + abs(s);
      store_sums(at, s);
      watch(m, control);
      watch(v, control);
      watch(s, control);
    }
  }
  let both = vec4f(rate * dot(numerator, vec4f(1)), dot(denominator, vec4f(1)), 0, 0);
${sumWorkgroup("both")}
  if (li == 0u && wg * ${THREADS * UNROLL}u < params.count4) { store_partials(params.slot + wg, total); }`,
    }),
    params: [
      shape.elements / 4,
      shape.slot,
      shape.beta1,
      1 - shape.beta1,
      shape.beta2,
      1 - shape.beta2,
      shape.beta3,
      shape.weightDecay,
      PRODIGY_FIRST_DISTANCE,
    ],
    grid: foldGrid(prodigySlots(shape.elements)),
    flops: 18 * shape.elements,
  };
}

/**
 * Second launch: d from the sums over all buffers. It never shrinks and its growth is not limited, so it is the largest
 * estimate so far. distance = [d, numerator, step size dlr of this step (with the d it began with), 0]. Buffers:
 * partials, state, control, distance (f32 [4]).
 */
export function prodigyDistance(
  target: Target,
  shape: { readonly slots: number; readonly beta3: number },
): Launch {
  return {
    kernel: buildKernel({
      name: "prodigy_distance",
      spec: { subgroups: hasSubgroups(target) },
      params: ["slots", "beta3:f32"],
      buffers: ["partials", "state", "control", "distance"].map((name) => ({ name, dtype: "f32" })),
      workgroupSize: THREADS,
      declarations: `${laneSums(target)}\n${WATCH}`,
      body: `${ACTIVE}
${sumSlots()}
  if (li == 0u) {
    if (moving && total.y > 0.0) {
      let numerator = params.beta3 * distance.y + total.x;
      let next = vec4f(max(distance.x, numerator / total.y), numerator, distance.x * state.y, 0);
      store_distance(0u, next);
      watch(next, control);
    } else {
      store_distance(0u, vec4f(distance.xy, 0, 0));
    }
  }`,
    }),
    params: [shape.slots, shape.beta3],
    grid: [1, 1, 1],
    flops: 4 * shape.slots,
  };
}

/**
 * Third launch: p = p - dlr m / (sqrt(v) + d eps), with decoupled decay also - dlr wd p; offset grows by the same.
 * Buffers: parameters, offset, moment1, moment2, distance, control and, with `copy`, working copy of the parameters in
 * that type.
 */
export function prodigyUpdate(spec: ProdigySpec, shape: ProdigyShape): Launch {
  const names = ["parameters", "offset", "moment1", "moment2", "distance", "control"];
  const buffers: BufferSpec[] = names.map((name) => ({ name, dtype: "f32" }));
  if (spec.copy !== "none") buffers.push({ name: "copy", dtype: spec.copy });
  const count = fours("parameters", shape.elements);
  return {
    kernel: buildKernel({
      name: "prodigy_update",
      spec: { copy: spec.copy, decouple: spec.decouple },
      params: ["count4", "eps:f32", "decay:f32"],
      buffers,
      workgroupSize: THREADS,
      declarations: WATCH,
      body: `
  let distance = load_distance(0u);
  if (distance.z > 0.0 && gid < params.count4) {
    let p = load_parameters(gid);
    let step = distance.z * (load_moment1(gid) / (sqrt(load_moment2(gid)) + distance.x * params.eps)${
        spec.decouple ? " + params.decay * p" : ""
      });
    let control = load_control(0u);
    let offset = load_offset(gid) + step;
    let q = p - step;
    store_offset(gid, offset);
    store_parameters(gid, q);
    watch(offset, control);
    watch(q, control);
    ${spec.copy === "none" ? "" : "store_copy(gid, q);"}
  }`,
    }),
    params: [count, shape.eps, shape.weightDecay],
    grid: foldGrid(Math.ceil(count / THREADS)),
    flops: 6 * shape.elements,
  };
}
