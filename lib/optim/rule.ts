/** What every update rule offers to the recorded update. */
import type { Bucket } from "../models/tensors/trainables.ts";
import type { Plan } from "../plan/plan.ts";
import { Tensor } from "../plan/tensor.ts";

/** Settings of a rule that stay the same for a run; the config's keys. */
export interface RuleConfig {
  readonly beta1: number;
  readonly beta2: number;
  /** Prodigy's distance and CAME's confidence only. */
  readonly beta3: number;
  /** All but CAME, which has its own. */
  readonly epsilon: number;
  readonly weight_decay: number;
  /** How the masters are stored, and rounded where that is bf16. Default f32. */
  readonly master_weights?: "f32" | "bf16_kahan" | "bf16_stochastic";
  /** Stochastic rounding draws from it. Default 0. */
  readonly seed?: number;
}

/** What the host decides anew for every step. */
export interface StepScalars {
  readonly learningRate: number;
  /** Applied updates, this one included: the first is 1. */
  readonly step: number;
  /** Factor on the loss, taken out of the gradients again. */
  readonly lossScale: number;
}

/** The small tensors every rule reads. */
export interface UpdateInputs {
  /** f32 [4], uploaded every step; see {@linkcode UpdateRule.scalars}. */
  readonly state: Tensor;
  /** f32 [4], computed every step: gradient norm, factor on gradients, skip flag, whether a result is not finite. */
  readonly control: Tensor;
}

/** An optimizer over a set of buckets: its tensors, and the launches that change the masters. */
export interface UpdateRule {
  /** Everything an exact continuation needs besides the masters, by stable names; zero before the first step. */
  readonly states: ReadonlyMap<string, Tensor>;
  /** Those of the states that start otherwise. */
  readonly starts: ReadonlyMap<Tensor, Float32Array<ArrayBuffer>>;
  /** Prodigy's distance estimate, the first value of f32 [4]. */
  readonly distance?: Tensor;
  /** The four values of {@linkcode UpdateInputs.state}; the last is the inverse loss scale. */
  scalars(step: StepScalars): Float32Array<ArrayBuffer>;
  /** Rules that round at random: what the draws of a step depend on, u32 [4], uploaded every step. */
  readonly draws?: { readonly key: Tensor; values(step: StepScalars): Uint32Array<ArrayBuffer> };
  /** Records the update of masters and working copies; a step whose skip flag is set changes nothing. */
  record(plan: Plan, inputs: UpdateInputs): void;
}

/** A resident tensor that belongs to one bucket: it lives where the bucket's masters live. */
export function besideMasters(name: string, size: number, { values }: Bucket, dtype: "f32" | "u32" = "f32"): Tensor {
  return new Tensor(name, [size], dtype, { resident: true, host: values.host });
}

/** Working copy of a bucket as optional operand of a launch. */
export function copies({ copy }: Bucket): Tensor[] {
  return copy === undefined ? [] : [copy];
}
