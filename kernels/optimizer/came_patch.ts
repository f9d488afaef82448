/**
 * CAME for stacks of 2 x 2 matrices: the patch embedding's convolution, whose two last axes are its window. A matrix is
 * one group of four elements, so row and column means need no other thread. Three launches.
 */
import { type DType, foldGrid, type Launch, type NamedLaunch, type Target, THREADS } from "../core/kernel.ts";
import { INSTABILITY_FLOOR, renamed, SQUARE_FLOOR } from "./came.ts";
import { hasSubgroups, laneSums, sumWorkgroup } from "../reduce/lanes.ts";
import { finishSum } from "../reduce/sums.ts";
import { buildKernel } from "../core/wgsl.ts";
import { WATCH } from "./watch.ts";

/** A stack of `batch` matrices of 2 x 2. */
export interface CamePatchShape {
  readonly batch: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly beta3: number;
  readonly weightDecay: number;
}

/** f32 elements of the buffers of {@linkcode camePatch}; the first three last from step to step and start at zero. */
export interface CamePatchSizes {
  /** Mean of the update, [batch, 2, 2]. */
  readonly moment: number;
  /** [batch, 4]: two row means, then two column means of the squared gradient. */
  readonly second_moment: number;
  /** The same of the instability. */
  readonly instability: number;
  readonly squares: number;
  /** [4]: mean square of the update. */
  readonly mean_square: number;
}

/** Sizes of the buffers for a shape. */
export function camePatchSizes({ batch }: CamePatchShape): CamePatchSizes {
  return {
    moment: 4 * batch,
    second_moment: 4 * batch,
    instability: 4 * batch,
    squares: Math.ceil(batch / THREADS) * 4,
    mean_square: 4,
  };
}

/** `means`: row and column means of a matrix; `trust`: what the factored second moment multiplies each element by. */
const FACTORS = `fn means(v: vec4f) -> vec4f { return 0.5 * (v.xzxy + v.ywzw); }
fn trust(f: vec4f) -> vec4f {
  return inverseSqrt(f.xxyy / (0.5 * (f.x + f.y))) * inverseSqrt(f.zwzw);
}`;

/** Means of the squared gradient and partial sums of the squared update. */
function moments(target: Target, gradients: DType, { batch, beta2 }: CamePatchShape): Launch {
  return {
    kernel: buildKernel({
      name: "came_patch_moments",
      spec: { gradients, subgroups: hasSubgroups(target) },
      params: ["batch", "floor:f32", "beta2:f32", "rest2:f32"],
      buffers: [
        { name: "gradients", dtype: gradients },
        { name: "control", dtype: "f32" },
        { name: "second_moment", dtype: "f32" },
        { name: "squares", dtype: "f32" },
      ],
      workgroupSize: THREADS,
      declarations: `${laneSums(target)}\n${FACTORS}\n${WATCH}`,
      body: `
  let control = load_control(0u);
  var sum = vec4f(0);
  if (gid < params.batch && control.z == 0.0) {
    let g = load_gradients(gid) * control.y;
    let f = params.beta2 * load_second_moment(gid) + params.rest2 * (means(g * g) + params.floor);
    store_second_moment(gid, f);
    watch(f, control);
    let u = g * trust(f);
    sum = u * u;
  }
${sumWorkgroup("sum")}
  if (li == 0u && wg * ${THREADS}u < params.batch) { store_squares(wg, total); }`,
    }),
    params: [batch, SQUARE_FLOOR, beta2, 1 - beta2],
    grid: foldGrid(Math.ceil(batch / THREADS)),
    flops: 40 * batch,
  };
}

/** The limited update, its mean, the instability and what comes off the parameters. */
function apply(gradients: DType, copy: DType | "none", shape: CamePatchShape): Launch {
  const { batch, beta1, beta3, weightDecay } = shape;
  const state = ["moment", "second_moment", "instability", "mean_square", "state", "control"];
  return {
    kernel: buildKernel({
      name: "came_patch_apply",
      spec: { gradients, copy },
      params: ["batch", "floor:f32", "beta1:f32", "rest1:f32", "beta3:f32", "rest3:f32", "decay:f32"],
      buffers: [
        { name: "parameters", dtype: "f32" },
        { name: "gradients", dtype: gradients },
        ...state.map((name) => ({ name, dtype: "f32" as const })),
        ...(copy === "none" ? [] : [{ name: "copy", dtype: copy }]),
      ],
      workgroupSize: THREADS,
      declarations: `${FACTORS}\n${WATCH}`,
      body: `
  let control = load_control(0u);
  if (gid < params.batch && control.z == 0.0) {
    let limit = max(1.0, sqrt(load_mean_square(0u).x));
    let u = load_gradients(gid) * control.y * trust(load_second_moment(gid)) / limit;
    let m = params.beta1 * load_moment(gid) + params.rest1 * u;
    let unstable = means((u - m) * (u - m)) + params.floor;
    let f = params.beta3 * load_instability(gid) + params.rest3 * unstable;
    let p = load_parameters(gid);
    let q = p - load_state(0u).x * (params.decay * p + m * trust(f));
    store_moment(gid, m);
    store_instability(gid, f);
    store_parameters(gid, q);
    watch(m, control);
    watch(f, control);
    watch(q, control);
    ${copy === "none" ? "" : "store_copy(gid, q);"}
  }`,
    }),
    params: [batch, INSTABILITY_FLOOR, beta1, 1 - beta1, beta3, 1 - beta3, weightDecay],
    grid: foldGrid(Math.ceil(batch / THREADS)),
    flops: 90 * batch,
  };
}

/**
 * One CAME step of a stack of 2 x 2 matrices. Buffers by name: parameters, gradients, state (f32 [4], first value the
 * learning rate), control (of clipControl), copy when wanted, and those of {@linkcode CamePatchSizes}. Clip threshold
 * 1.
 */
export function camePatch(
  target: Target,
  spec: { readonly gradients: DType; readonly copy: DType | "none" },
  shape: CamePatchShape,
): NamedLaunch[] {
  const { squares } = camePatchSizes(shape);
  const size = finishSum(target, { slots: squares / 4, scale: 1 / (4 * shape.batch) });
  return [
    { launch: moments(target, spec.gradients, shape), writes: ["second_moment", "squares", "control"] },
    { launch: renamed(size, ["squares", "mean_square"]), writes: ["mean_square"] },
    {
      launch: apply(spec.gradients, spec.copy, shape),
      writes: ["parameters", "moment", "instability", "control", ...(spec.copy === "none" ? [] : ["copy"])],
    },
  ];
}
