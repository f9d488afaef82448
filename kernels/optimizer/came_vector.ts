/** CAME for tensors of fewer than two axes: a full second moment, no confidence. Three launches. */
import { type DType, foldGrid, type Launch, type NamedLaunch, type Target, THREADS } from "../core/kernel.ts";
import { fours } from "../core/fours.ts";
import { renamed } from "./came.ts";
import { hasSubgroups, laneSums, sumWorkgroup } from "../reduce/lanes.ts";
import { finishSum } from "../reduce/sums.ts";
import { buildKernel } from "../core/wgsl.ts";
import { WATCH } from "./watch.ts";

/** A vector of `elements` numbers stored in `width`, a multiple of four; the rest is zero. */
export interface CameVectorShape {
  readonly elements: number;
  readonly width: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly weightDecay: number;
}

/** f32 elements of the buffers of {@linkcode cameVector}; both moments start at zero. */
export function cameVectorSizes(
  { width }: CameVectorShape,
): { moment: number; second_moment: number; squares: number; mean_square: number } {
  return { moment: width, second_moment: width, squares: Math.ceil(width / 4 / THREADS) * 4, mean_square: 4 };
}

/** v = b2 v + (1-b2)(g^2 + 1e-30) and partial sums of the squared update g / sqrt(v).. */
function moments(target: Target, gradients: DType, { width, elements, beta2 }: CameVectorShape): Launch {
  return {
    kernel: buildKernel({
      name: "came_vector_moments",
      spec: { gradients, subgroups: hasSubgroups(target) },
      params: ["count4", "beta2:f32", "rest2:f32"],
      buffers: [
        { name: "gradients", dtype: gradients },
        { name: "control", dtype: "f32" },
        { name: "second_moment", dtype: "f32" },
        { name: "squares", dtype: "f32" },
      ],
      workgroupSize: THREADS,
      declarations: `${laneSums(target)}\n${WATCH}`,
      body: `
  let control = load_control(0u);
  var sum = vec4f(0);
  if (gid < params.count4 && control.z == 0.0) {
    let g = load_gradients(gid) * control.y;
    let v = params.beta2 * load_second_moment(gid) + params.rest2 * (g * g + 1e-30);
    store_second_moment(gid, v);
    watch(v, control);
    sum = g * g / v;
  }
${sumWorkgroup("sum")}
  if (li == 0u && wg * ${THREADS}u < params.count4) { store_squares(wg, total); }`,
    }),
    params: [fours("a vector", width), beta2, 1 - beta2],
    grid: foldGrid(Math.ceil(width / 4 / THREADS)),
    flops: 8 * elements,
  };
}

/** m = b1 m + (1-b1) u with u limited to a root mean square of 1, p = p - lr (wd p + m). */
function apply(gradients: DType, copy: DType | "none", shape: CameVectorShape): Launch {
  const { width, elements, beta1, weightDecay } = shape;
  return {
    kernel: buildKernel({
      name: "came_vector_apply",
      spec: { gradients, copy },
      params: ["count4", "beta1:f32", "rest1:f32", "decay:f32"],
      buffers: [
        { name: "parameters", dtype: "f32" },
        { name: "gradients", dtype: gradients },
        ...["moment", "second_moment", "mean_square", "state", "control"].map((name) => ({
          name,
          dtype: "f32" as const,
        })),
        ...(copy === "none" ? [] : [{ name: "copy", dtype: copy }]),
      ],
      workgroupSize: THREADS,
      declarations: WATCH,
      body: `
  let control = load_control(0u);
  if (gid < params.count4 && control.z == 0.0) {
    let limit = max(1.0, sqrt(load_mean_square(0u).x));
    let u = load_gradients(gid) * control.y * inverseSqrt(load_second_moment(gid)) / limit;
    let m = params.beta1 * load_moment(gid) + params.rest1 * u;
    let p = load_parameters(gid);
    let q = p - load_state(0u).x * (params.decay * p + m);
    store_moment(gid, m);
    store_parameters(gid, q);
    watch(m, control);
    watch(q, control);
    ${copy === "none" ? "" : "store_copy(gid, q);"}
  }`,
    }),
    params: [fours("a vector", width), beta1, 1 - beta1, weightDecay],
    grid: foldGrid(Math.ceil(width / 4 / THREADS)),
    flops: 8 * elements,
  };
}

/**
 * One CAME step of a vector. Buffers by name: parameters, gradients, state (f32 [4], first value the learning rate),
 * control (of clipControl), copy when wanted, and those of {@linkcode cameVectorSizes}.
 */
export function cameVector(
  target: Target,
  spec: { readonly gradients: DType; readonly copy: DType | "none" },
  shape: CameVectorShape,
): NamedLaunch[] {
  const size = finishSum(target, { slots: cameVectorSizes(shape).squares / 4, scale: 1 / shape.elements });
  return [
    { launch: moments(target, spec.gradients, shape), writes: ["second_moment", "squares", "control"] },
    { launch: renamed(size, ["squares", "mean_square"]), writes: ["mean_square"] },
    {
      launch: apply(spec.gradients, spec.copy, shape),
      writes: ["parameters", "moment", "control", ...(spec.copy === "none" ? [] : ["copy"])],
    },
  ];
}
