/** Adam and AdamW (arXiv:1412.6980, arXiv:1711.05101), with f32 moments. */
import { adam, adamState } from "../../kernels/optimizer/adam.ts";
import type { Bucket } from "../models/tensors/trainables.ts";
import { recordWork } from "../plan/work.ts";
import { besideMasters, type RuleConfig, type UpdateRule } from "./rule.ts";

/** States `m.<bucket>` and `v.<bucket>`: first and second moment of every master. */
export function adamRule(config: RuleConfig, kind: "adamw" | "adam", buckets: readonly Bucket[]): UpdateRule {
  const { beta1, beta2, epsilon, weight_decay } = config;
  const moments = buckets.map((bucket, i) => ({
    m: besideMasters(`m.${i}`, bucket.values.size, bucket),
    v: besideMasters(`v.${i}`, bucket.values.size, bucket),
  }));
  return {
    states: new Map(moments.flatMap(({ m, v }) => [[m.name, m], [v.name, v]])),
    starts: new Map(),
    scalars: (step) => adamState({ ...step, beta1, beta2 }),
    record(plan, { state, control }) {
      buckets.forEach((bucket, i) => {
        const { values, gradients, copy } = bucket;
        const { m, v } = moments[i]!;
        const shape = { elements: values.size, beta1, beta2, eps: epsilon, weightDecay: weight_decay };
        const spec = { kind, gradients: "f32", copy: copy?.dtype ?? "none" } as const;
        const operands = { parameters: values, gradients, moment1: m, moment2: v, state, control };
        recordWork(plan, adam(plan.target, spec, shape), copy === undefined ? operands : { ...operands, copy });
        plan.release();
      });
    },
  };
}
