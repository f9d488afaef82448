/**
 * Prodigy (arXiv:2306.06101) with the options of the original trainer: coupled decay, no bias correction, no safeguard.
 */
import {
  prodigyDistance,
  prodigyDistanceStart,
  prodigyMoments,
  type ProdigyShape,
  prodigySlots,
  type ProdigySpec,
  prodigyState,
  prodigyUpdate,
} from "../../kernels/optimizer/prodigy.ts";
import type { Bucket } from "../models/tensors/trainables.ts";
import { Tensor } from "../plan/tensor.ts";
import { besideMasters, copies, type RuleConfig, type UpdateRule } from "./rule.ts";

interface Tensors {
  readonly offset: Tensor;
  readonly m: Tensor;
  readonly v: Tensor;
  readonly s: Tensor;
}

/** States `offset.<bucket>` (p0 - p), `m`, `v`, `s` likewise and one `distance`. */
export function prodigyRule(config: RuleConfig, buckets: readonly Bucket[]): UpdateRule {
  const { beta1, beta2, beta3, epsilon, weight_decay } = config;
  const distance = new Tensor("distance", [4], "f32", { resident: true });
  const all = buckets.map((bucket, i): Tensors => {
    const tensor = (name: string) => besideMasters(`${name}.${i}`, bucket.values.size, bucket);
    return { offset: tensor("offset"), m: tensor("m"), v: tensor("v"), s: tensor("s") };
  });
  const shape = ({ values }: Bucket): ProdigyShape => ({
    elements: values.size,
    beta1,
    beta2,
    beta3,
    eps: epsilon,
    weightDecay: weight_decay,
  });
  const spec = ({ copy }: Bucket): ProdigySpec => ({
    gradients: "f32",
    copy: copy?.dtype ?? "none",
    decouple: false,
    safeguard: false,
  });
  return {
    states: new Map([distance, ...all.flatMap((tensors) => Object.values(tensors))].map((t) => [t.name, t])),
    starts: new Map([[distance, prodigyDistanceStart()]]),
    distance,
    scalars: (step) => prodigyState({ ...step, beta1, beta2, biasCorrection: false }),
    record(plan, { state, control }) {
      const slots = buckets.map(({ values }) => prodigySlots(values.size));
      const total = slots.reduce((sum, n) => sum + n, 0);
      const partials = plan.transient("distance partials", [total, 4], "f32");
      let slot = 0;
      buckets.forEach((bucket, i) => {
        const { offset, m, v, s } = all[i]!;
        plan.launch(
          prodigyMoments(plan.target, spec(bucket), { ...shape(bucket), slot }),
          [bucket.values, bucket.gradients, offset, m, v, s, state, control, distance, partials],
          [m, v, s, partials, control],
        );
        slot += slots[i]!;
        plan.release();
      });
      plan.launch(
        prodigyDistance(plan.target, { slots: total, beta3 }),
        [partials, state, control, distance],
        [distance, control],
      );
      buckets.forEach((bucket, i) => {
        const { offset, m, v } = all[i]!;
        plan.launch(
          prodigyUpdate(spec(bucket), shape(bucket)),
          [bucket.values, offset, m, v, distance, control, ...copies(bucket)],
          [bucket.values, offset, control, ...copies(bucket)],
        );
        plan.release();
      });
    },
  };
}
