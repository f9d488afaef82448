/** AdamW with moments of one byte each (arXiv:2110.02861). */
import { adamState } from "../../kernels/optimizer/adam.ts";
import { adamw8bit, quantisedMoments } from "../../kernels/optimizer/adam_8bit.ts";
import type { Bucket } from "../models/tensors/trainables.ts";
import { besideMasters, copies, type RuleConfig, type UpdateRule } from "./rule.ts";

/** States `codes1.<bucket>`, `codes2.<bucket>` (u32, four codes a word) and `scales.<bucket>` (f32). */
export function adam8bitRule(config: RuleConfig, buckets: readonly Bucket[]): UpdateRule {
  const { beta1, beta2, epsilon, weight_decay } = config;
  const moments = buckets.map((bucket, i) => {
    const { words, scales } = quantisedMoments(bucket.values.size);
    return [
      besideMasters(`codes1.${i}`, words, bucket, "u32"),
      besideMasters(`codes2.${i}`, words, bucket, "u32"),
      besideMasters(`scales.${i}`, scales, bucket),
    ];
  });
  return {
    states: new Map(moments.flat().map((tensor) => [tensor.name, tensor])),
    starts: new Map(),
    scalars: (step) => adamState({ ...step, beta1, beta2 }),
    record(plan, { state, control }) {
      buckets.forEach((bucket, i) => {
        const { values, gradients, copy } = bucket;
        const shape = { elements: values.size, beta1, beta2, eps: epsilon, weightDecay: weight_decay };
        plan.launch(
          adamw8bit(plan.target, { gradients: "f32", copy: copy?.dtype ?? "none" }, shape),
          [values, gradients, ...moments[i]!, state, control, ...copies(bucket)],
          [values, ...moments[i]!, control, ...copies(bucket)],
        );
        plan.release();
      });
    },
  };
}
