/** CAME (arXiv:2307.02047) over packed trainables: every matrix by itself, as it factors rows and columns. */
import type { NamedLaunch, Target } from "../../kernels/core/kernel.ts";
import { came, cameSizes } from "../../kernels/optimizer/came.ts";
import { camePatch, camePatchSizes } from "../../kernels/optimizer/came_patch.ts";
import { cameVector, cameVectorSizes } from "../../kernels/optimizer/came_vector.ts";
import type { Bucket, Trainable } from "../models/tensors/trainables.ts";
import type { Plan } from "../plan/plan.ts";
import { ALIGNMENT, elements, type Tensor } from "../plan/tensor.ts";
import { recordWork } from "../plan/work.ts";
import { besideMasters, type RuleConfig, type UpdateInputs, type UpdateRule } from "./rule.ts";

/** Elements between the starts of two windows of f32. */
const WINDOW = ALIGNMENT / 4;

/** How one tensor is updated. */
interface Factoring {
  /** f32 elements of every named buffer. */
  readonly sizes: Readonly<Record<string, number>>;
  readonly launches: (target: Target, copy: Trainable["working"]["dtype"] | "none") => NamedLaunch[];
}

/** Buffers computed anew in every step. */
const SCRATCH = ["means", "partials", "squares", "mean_square"];

/**
 * Vectors keep a full second moment; the last two axes of everything else are factored. `shape` is how the tensor is
 * stored, `trueShape` what of it is in use: padding must not enter the means.
 *
 * @throws {RangeError} for stacks of matrices other than 2 x 2, which no layer of the models has.
 */
function factoring(config: RuleConfig, { name, shape, trueShape }: Trainable): Factoring {
  const { beta1, beta2, beta3, weight_decay: weightDecay } = config;
  const decays = { beta1, beta2, beta3, weightDecay };
  const spec = (copy: Trainable["working"]["dtype"] | "none") => ({ gradients: "f32", copy }) as const;
  const width = shape.at(-1)!;
  if (trueShape.length < 2) {
    const vector = { elements: elements(trueShape), width, ...decays };
    return { sizes: cameVectorSizes(vector), launches: (target, copy) => cameVector(target, spec(copy), vector) };
  }
  const [rows, columns] = trueShape.slice(-2) as [number, number];
  if (trueShape.length === 2) {
    const matrix = { batch: 1, rows, columns, width, ...decays };
    return { sizes: { ...cameSizes(matrix) }, launches: (target, copy) => came(target, spec(copy), matrix) };
  }
  if (rows !== 2 || columns !== 2) {
    throw new RangeError(
      `Cannot factor "${name}" [${trueShape}]: stacks of matrices other than 2 x 2 are not supported`,
    );
  }
  const patch = { batch: elements(trueShape) / 4, ...decays };
  return { sizes: { ...camePatchSizes(patch) }, launches: (target, copy) => camePatch(target, spec(copy), patch) };
}

/**
 * States `m.<bucket>` (mean of the update) and `factors.<bucket>` (means of squared gradients and of the instability).
 */
export function cameRule(config: RuleConfig, buckets: readonly Bucket[]): UpdateRule {
  const packed = buckets.map((bucket, i) => {
    let size = 0;
    const tensors = bucket.tensors.map((trainable) => {
      const how = factoring(config, trainable);
      const offsets = new Map<string, number>();
      for (const [name, length] of Object.entries(how.sizes)) {
        if (name === "moment" || SCRATCH.includes(name)) continue;
        offsets.set(name, size);
        size += Math.ceil(length / WINDOW) * WINDOW;
      }
      return { trainable, how, offsets };
    });
    const m = besideMasters(`m.${i}`, bucket.values.size, bucket);
    const factors = besideMasters(`factors.${i}`, size, bucket);
    return { bucket, m, factors, tensors };
  });
  return {
    states: new Map(packed.flatMap(({ m, factors }) => [[m.name, m], [factors.name, factors]])),
    starts: new Map(),
    scalars: ({ learningRate, lossScale }) => Float32Array.of(learningRate, 0, 0, 1 / lossScale),
    record(plan, inputs) {
      for (const { m, factors, tensors } of packed) {
        for (const { trainable, how, offsets } of tensors) {
          const state = new Map([...offsets].map(([name, offset]) => {
            return [name, factors.window(name, offset, [how.sizes[name]!])];
          }));
          recordTensor(plan, inputs, trainable, how, m, state);
        }
        plan.release();
      }
    },
  };
}

/** Records the launches of one tensor. */
function recordTensor(
  plan: Plan,
  inputs: UpdateInputs,
  { master, working }: Trainable,
  { sizes, launches }: Factoring,
  moments: Tensor,
  state: ReadonlyMap<string, Tensor>,
): void {
  const size = sizes.moment!;
  const inUse = (tensor: Tensor) => tensor.window(tensor.name, 0, [size]);
  recordWork(plan, { launches: launches(plan.target, working === master ? "none" : working.dtype), scratch: sizes }, {
    ...inputs,
    ...Object.fromEntries(state),
    parameters: inUse(master),
    gradients: inUse(working.gradient!),
    moment: moments.window("moment", master.byteOffset / 4, [size]),
    ...(working === master ? {} : { copy: inUse(working) }),
  });
}
