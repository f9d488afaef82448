/** The training objective: noised latents, the velocity target, the loss and its gradient. */
import { type DType, foldGrid, type Launch, type Target, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { hasSubgroups, laneSums, sumWorkgroup } from "../reduce/lanes.ts";
import { finishSum } from "../reduce/sums.ts";
import { buildKernel, unroll } from "../core/wgsl.ts";

/** `batch` samples of `elements` values each, a multiple of four. */
export interface SampleShape {
  readonly batch: number;
  readonly elements: number;
}

/** Vectors per thread. */
const UNROLL = 4;
const PARAMS = ["count4", "chunks", "batch"];

function chunks(elements: number): number {
  return Math.ceil(fours("a sample", elements) / (THREADS * UNROLL));
}

/**
 * Sample, coefficients and the vectors of this thread: a workgroup never spans two samples, so they are loaded once.
 */
const LOCATE = `
  let sample = min(wg / params.chunks, params.batch - 1u);
  let live = wg < params.chunks * params.batch;
  let k = load_coefficients(sample);
  let start = (wg % params.chunks) * ${THREADS * UNROLL}u + li;`;

const perVector = (statements: string): string =>
  unroll(UNROLL, (i) =>
    `  if (live && start + ${i * THREADS}u < params.count4) {
    let at = sample * params.count4 + start + ${i * THREADS}u;
    ${statements}
  }`);

/**
 * x_t = sqrt(a) z + sqrt(1-a) eps and v* = sqrt(a) eps - sqrt(1-a) z. Buffers: z, noise (f32 [batch, elements]),
 * coefficients (f32 [batch, 4]: sqrt(a), sqrt(1-a), gradient scale, loss weight), xt, velocity (f32).
 */
export function velocityTarget({ batch, elements }: SampleShape): Launch {
  return {
    kernel: buildKernel({
      name: "velocity_target",
      spec: {},
      params: PARAMS,
      buffers: ["z", "noise", "coefficients", "xt", "velocity"].map((name) => ({ name, dtype: "f32" })),
      workgroupSize: THREADS,
      body: LOCATE + "\n" + perVector(`let z = load_z(at);
    let noise = load_noise(at);
    store_xt(at, k.x * z + k.y * noise);
    store_velocity(at, k.x * noise - k.y * z);`),
    }),
    params: [elements / 4, chunks(elements), batch],
    grid: foldGrid(chunks(elements) * batch),
    flops: 6 * batch * elements,
  };
}

/** Slots (of four f32) of the partials of {@linkcode velocityLoss}. */
export function velocityLossSlots({ batch, elements }: SampleShape): number {
  return chunks(elements) * batch;
}

/**
 * Partial sums of loss weight * (v - v*)^2 and dv = 2 (v - v*) / elements * gradient scale, the third coefficient (loss
 * scale / (batch * accumulation)). Buffers: v, velocity (f32), coefficients (f32 [batch, 4]), dv, partials (f32 [slots,
 * 4]).
 */
export function velocityLoss(
  target: Target,
  spec: { readonly v: DType; readonly dv: DType },
  { batch, elements }: SampleShape,
): Launch {
  return {
    kernel: buildKernel({
      name: "velocity_loss",
      spec: { ...spec, subgroups: hasSubgroups(target) },
      params: [...PARAMS, "factor:f32"],
      buffers: [
        { name: "prediction", dtype: spec.v },
        { name: "velocity", dtype: "f32" },
        { name: "coefficients", dtype: "f32" },
        { name: "dv", dtype: spec.dv },
        { name: "partials", dtype: "f32" },
      ],
      workgroupSize: THREADS,
      declarations: laneSums(target),
      body: `${LOCATE}
  var sum = vec4f(0);
${
        perVector(`let d = load_prediction(at) - load_velocity(at);
    sum = sum + d * d;
    store_dv(at, d * (params.factor * k.z));`)
      }
${sumWorkgroup("sum")}
  if (li == 0u && live) { store_partials(wg, total * k.w); }`,
    }),
    params: [elements / 4, chunks(elements), batch, 2 / elements],
    grid: foldGrid(chunks(elements) * batch),
    flops: 5 * batch * elements,
  };
}

/**
 * loss[0] = sum over the batch of loss weight * mean over elements of (v - v*)^2; weights of 1 / samples give the mean,
 * and 0 leaves out the samples that fill up a partial batch. Buffers: partials, loss (f32 [4]).
 */
export function finishVelocityLoss(target: Target, shape: SampleShape): Launch {
  return finishSum(target, { slots: velocityLossSlots(shape), scale: 1 / shape.elements });
}
