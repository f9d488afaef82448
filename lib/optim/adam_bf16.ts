/** Adam and AdamW with f32 moments over weights stored in bf16 alone. */
import { adamState } from "../../kernels/optimizer/adam.ts";
import { adamBf16, type Bf16Rounding, drawKey } from "../../kernels/optimizer/adam_bf16.ts";
import type { Bucket } from "../models/tensors/trainables.ts";
import { Tensor } from "../plan/tensor.ts";
import type { RuleConfig, UpdateRule } from "./rule.ts";

/**
 * States `m.<bucket>`, `v.<bucket>` (f32) and, with `kahan`, `compensation.<bucket>` (bf16). The buckets' values are
 * bf16 and have no copies. States live where gradients do: the values are what the model reads, and stay on the GPU
 * when the rest leaves.
 */
export function adamBf16Rule(
  config: RuleConfig,
  { kind, rounding }: { readonly kind: "adamw" | "adam"; readonly rounding: Bf16Rounding },
  buckets: readonly Bucket[],
): UpdateRule {
  const { beta1, beta2, epsilon, weight_decay, seed = 0 } = config;
  const key = new Tensor("rounding key", [4], "u32", { resident: true });
  const states = buckets.map(({ gradients }, i) => {
    const state = (name: string, dtype: "f32" | "bf16") =>
      new Tensor(`${name}.${i}`, gradients.shape, dtype, { resident: true, host: gradients.host });
    return {
      moments: [state("m", "f32"), state("v", "f32")],
      compensation: rounding === "kahan" ? [state("compensation", "bf16")] : [],
    };
  });
  return {
    states: new Map(
      states.flatMap(({ moments, compensation }) =>
        [...moments, ...compensation].map((tensor) => [tensor.name, tensor])
      ),
    ),
    starts: new Map(),
    scalars: (step) => adamState({ ...step, beta1, beta2 }),
    ...(rounding === "stochastic" ? { draws: { key, values: ({ step }) => drawKey({ seed, step }) } } : {}),
    record(plan, { state, control }) {
      buckets.forEach(({ values, gradients }, bucket) => {
        const { moments, compensation } = states[bucket]!;
        const shape = { elements: values.size, bucket, beta1, beta2, eps: epsilon, weightDecay: weight_decay };
        plan.launch(
          adamBf16({ kind, rounding }, shape),
          [values, gradients, ...moments, state, control, ...(rounding === "kahan" ? compensation : [key])],
          [values, ...moments, ...compensation, control],
        );
        plan.release();
      });
    },
  };
}
