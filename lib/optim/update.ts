/**
 * The update of all trained tensors: global norm, clipping, non-finite guard and an update rule, recorded as one plan.
 */
import { clipControl } from "../../kernels/optimizer/adam.ts";
import { squareSlots, sumOfSquares } from "../../kernels/reduce/sums.ts";
import type { Target } from "../../kernels/core/kernel.ts";
import type { Session } from "../gpu/session.ts";
import type { Bucket } from "../models/tensors/trainables.ts";
import { Plan } from "../plan/plan.ts";
import { Tensor } from "../plan/tensor.ts";
import { declareAverages, recordAverages, startAverages } from "./average.ts";
import { type OptimizerName, optimizers } from "./optimizers.ts";
import type { RuleConfig, StepScalars, UpdateInputs, UpdateRule } from "./rule.ts";

/** Settings of the update that stay the same for a run; the config's keys. */
export interface OptimizerConfig extends RuleConfig {
  readonly optimizer: OptimizerName;
  /** Global gradient norm is clipped to this; 0 leaves it alone. */
  readonly max_grad_norm: number;
  /** Decay of the moving average of the masters; 0 keeps none. */
  readonly ema_decay: number;
  /** The host computes the gradient norm and uploads the control values: it has all gradients where the GPU has not. */
  readonly hostNorm?: boolean;
}

/** The tensors of the update besides masters and gradients. */
export interface OptimizerTensors extends UpdateInputs {
  readonly rule: UpdateRule;
  /** What is updated. */
  readonly buckets: readonly Bucket[];
  /** Moving averages of the masters by bucket; empty when `ema_decay` is 0. */
  readonly averages: readonly Tensor[];
  /** Everything an exact continuation saves and restores besides the masters, by stable names. */
  readonly states: ReadonlyMap<string, Tensor>;
}

/** Declares the optimizer's tensors for a set of buckets. */
export function declareOptimizer(config: OptimizerConfig, buckets: readonly Bucket[]): OptimizerTensors {
  const rule = optimizers[config.optimizer].rule(config, buckets);
  const averages = config.ema_decay > 0 ? declareAverages(buckets) : [];
  return {
    rule,
    buckets,
    averages,
    states: new Map([...rule.states, ...averages.map((tensor) => [tensor.name, tensor] as const)]),
    state: new Tensor("optimizer state", [4], "f32", { resident: true }),
    control: new Tensor("optimizer control", [4], "f32", { resident: true }),
  };
}

/**
 * Writes what the update reads where the host knows the norm of the gradients and the GPU does not: a rank that holds a
 * shard of them. `squares` is the sum of squares of all gradients, in float64.
 */
export function uploadControl(
  session: Session,
  { control }: OptimizerTensors,
  { max_grad_norm }: OptimizerConfig,
  { squares, lossScale }: { readonly squares: number; readonly lossScale: number },
): void {
  const norm = Math.sqrt(squares) / lossScale;
  const clip = max_grad_norm > 0 ? Math.min(1, max_grad_norm / (norm + 1e-6)) : 1;
  // As on the GPU: above 3.4e38, single squares may be infinite in f32, and so may be second moments.
  const skip = Number.isFinite(Math.fround(squares)) ? 0 : 1;
  session.write(control, Float32Array.of(norm, clip / lossScale, skip, 0));
}

/**
 * Records the update. `loss` is the slot whose non-finite value, like that of any gradient, leaves every weight
 * unchanged.
 */
export function recordUpdate(
  target: Target,
  config: OptimizerConfig,
  buckets: readonly Bucket[],
  { rule, averages, state, control }: OptimizerTensors,
  loss: Tensor,
): Plan {
  const plan = new Plan({ target });
  if (!config.hostNorm) recordNorm(plan, config, buckets, { state, control }, loss);
  rule.record(plan, { state, control });
  if (averages.length > 0) recordAverages(plan, config.ema_decay, buckets, averages, control);
  return plan;
}

/** Records the global norm of the gradients, the clipping factor and the skip flag. */
function recordNorm(
  plan: Plan,
  config: OptimizerConfig,
  buckets: readonly Bucket[],
  { state, control }: UpdateInputs,
  loss: Tensor,
): void {
  const { target } = plan;
  const slots = buckets.map(({ gradients }) => squareSlots(gradients.size));
  const total = slots.reduce((sum, n) => sum + n, 0);
  const partials = plan.transient("norm partials", [total, 4], "f32");
  let slot = 0;
  buckets.forEach(({ gradients }, i) => {
    const shape = { elements: gradients.size, slot };
    plan.launch(sumOfSquares(target, { x: "f32" }, shape), [gradients, partials], [partials]);
    slot += slots[i]!;
    plan.release();
  });
  plan.launch(
    clipControl(target, { slots: total, maxNorm: config.max_grad_norm }),
    [partials, loss, state, control],
    [control],
  );
}

/**
 * Gives states their starting values: call once the masters are uploaded, and before saved states are restored over
 * them.
 */
export async function initialiseOptimizer(
  session: Session,
  buckets: readonly Bucket[],
  { rule, averages }: OptimizerTensors,
): Promise<void> {
  for (const [tensor, values] of rule.starts) session.write(tensor, values);
  await startAverages(session, buckets, averages);
}

/** Uploads what changes from step to step; computed in float64. */
export function uploadState(session: Session, { rule, state }: OptimizerTensors, scalars: StepScalars): void {
  session.write(state, rule.scalars(scalars));
  if (rule.draws !== undefined) session.write(rule.draws.key, rule.draws.values(scalars));
}
