/** The update of all trained tensors: global norm, clipping, non-finite guard and Adam, recorded as one plan. */
import { adam, clipControl } from "../../kernels/optimizer.ts";
import { squareSlots, sumOfSquares } from "../../kernels/reduce.ts";
import type { Target } from "../../kernels/kernel.ts";
import type { Bucket } from "../models/trainables.ts";
import { Plan } from "../plan/plan.ts";
import { Tensor } from "../plan/tensor.ts";

/** Settings that stay the same for a run. */
export interface OptimizerConfig {
  readonly optimizer: "adamw" | "adam";
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weight_decay: number;
  /** Global gradient norm is clipped to this; 0 leaves it alone. */
  readonly max_grad_norm: number;
}

/** First and second moment of one bucket, f32. */
export interface Moments {
  readonly m: Tensor;
  readonly v: Tensor;
}

/** The tensors of the update besides masters and gradients. */
export interface OptimizerTensors {
  readonly moments: readonly Moments[];
  /** f32 [4], uploaded every step: learning rate, bias corrections, inverse loss scale. */
  readonly state: Tensor;
  /** f32 [4], read every step: gradient norm, factor applied, skip flag, squared norm. */
  readonly control: Tensor;
}

/** Declares the optimizer's tensors for a set of buckets. */
export function declareOptimizer(buckets: readonly Bucket[]): OptimizerTensors {
  const resident = (name: string, size: number) => new Tensor(name, [size], "f32", { resident: true });
  return {
    moments: buckets.map(({ values }, i) => ({
      m: resident(`first moments ${i}`, values.size),
      v: resident(`second moments ${i}`, values.size),
    })),
    state: resident("optimizer state", 4),
    control: resident("optimizer control", 4),
  };
}

/** Records the update. `loss` is the slot whose non-finite value, like that of any gradient, leaves every weight unchanged. */
export function recordUpdate(
  target: Target,
  config: OptimizerConfig,
  buckets: readonly Bucket[],
  { moments, state, control }: OptimizerTensors,
  loss: Tensor,
): Plan {
  const plan = new Plan({ target });
  const slots = buckets.map(({ gradients }) => squareSlots(gradients.size));
  const total = slots.reduce((sum, n) => sum + n, 0);
  const partials = plan.transient("norm partials", [total, 4], "f32");
  let slot = 0;
  buckets.forEach(({ gradients }, i) => {
    const shape = { elements: gradients.size, slot };
    plan.launch(sumOfSquares(target, { x: "f32" }, shape), [gradients, partials], [partials]);
    slot += slots[i]!;
  });
  plan.launch(
    clipControl(target, { slots: total, maxNorm: config.max_grad_norm }),
    [partials, loss, state, control],
    [control],
  );
  buckets.forEach(({ values, gradients, copy }, i) => {
    const { m, v } = moments[i]!;
    const shape = {
      elements: values.size,
      beta1: config.beta1,
      beta2: config.beta2,
      eps: config.epsilon,
      weightDecay: config.weight_decay,
    };
    const spec = { kind: config.optimizer, gradients: "f32", copy: copy?.dtype ?? "none" } as const;
    const written = [values, m, v, ...(copy ? [copy] : [])];
    plan.launch(
      adam(target, spec, shape),
      [values, gradients, m, v, state, control, ...(copy ? [copy] : [])],
      written,
    );
  });
  return plan;
}
