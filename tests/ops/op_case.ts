/** One problem of an op: operands, how it is recorded and what it computes. Tests check it, benchmarks can time it. */
import type { DType, Target } from "../../kernels/core/kernel.ts";
import { Executable } from "../../lib/gpu/executable.ts";
import type { Session } from "../../lib/gpu/session.ts";
import { encodeF32, type StorageType } from "../../lib/io/safetensors/half.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { DISCRETE_LIMITS } from "../../lib/plan/limits.ts";
import { cost, finish, type Recording } from "../../lib/plan/recording.ts";
import { elements, Tensor } from "../../lib/plan/tensor.ts";
import { numbers, rounded } from "../kernels/run.ts";

/**
 * What an operand is to backward: an activation that needs a gradient, a trained tensor whose gradient is added to, or a tensor
 * without gradient.
 */
export type Role = "input" | "parameter" | "constant";

/** A tensor the op reads. */
export interface Operand {
  readonly shape: readonly number[];
  readonly role: Role;
  /** Storage; default f32. */
  readonly dtype?: DType;
  /** Contents made from numbers in [-0.5, 0.5); default those numbers. */
  readonly values?: (uniform: number, index: number) => number;
  /**
   * Where another consumer of an input may be recorded. Ops whose kernels overwrite the gradient must be recorded last (`before`:
   * the other comes before); chunked conditioning has no other consumer at all (`never`). Default `both` orders.
   */
  readonly shared?: "both" | "before" | "never";
}

/** Values by operand. */
export type Values<K extends string = string> = Readonly<Record<K, Float64Array>>;

/** A problem. */
export interface OpCase<K extends string = string> {
  readonly name: string;
  readonly operands: Readonly<Record<K, Operand>>;
  /** Records the op and returns its output. */
  record(plan: Plan, tensors: Readonly<Record<K, Tensor>>): Tensor;
  /** The output in float64. */
  reference(values: Values<K>): Float64Array;
  /** Multiply-adds of the forward, each counted as two operations, where a formula says so. */
  readonly flops?: number;
}

/** Checks the operand names of a case against its functions. */
export function opCase<K extends string>(description: OpCase<K>): OpCase {
  return description as unknown as OpCase;
}

/** What every operand holds, rounded to its storage. */
export function caseValues({ operands }: OpCase): Map<string, Float32Array<ArrayBuffer>> {
  return new Map(
    Object.entries(operands).map(([name, { shape, dtype = "f32", values = (v: number) => v }], i) => {
      return [name, numbers(elements(shape), i + 1).map((v, at) => rounded(values(v, at), dtype))];
    }),
  );
}

/** The forward pass alone: the plan, its operands and its output. */
export function recordForward(
  { operands, record }: OpCase,
  target: Target,
): { readonly plan: Plan; readonly tensors: ReadonlyMap<string, Tensor>; readonly output: Tensor } {
  const plan = new Plan({ target });
  const tensors = Object.fromEntries(
    Object.entries(operands).map(([name, { shape, dtype = "f32" }]) => {
      return [name, new Tensor(name, shape, dtype, { resident: true })];
    }),
  );
  const output = plan.output(record(plan, tensors));
  return { plan, tensors: new Map(Object.entries(tensors)), output };
}

/** Runs the forward pass: the bytes of its output, and how that is stored. */
export async function runForward(
  session: Session,
  description: OpCase,
  target: Target,
): Promise<{ readonly bytes: ArrayBuffer; readonly dtype: DType; readonly recording: Recording }> {
  const { plan, tensors, output } = recordForward(description, target);
  const values = caseValues(description);
  for (const [name, tensor] of tensors) {
    session.write(tensor, encodeF32(values.get(name)!, tensor.dtype as StorageType));
  }
  const recording = finish(plan, session.limits);
  using executable = new Executable(session, recording);
  await executable.run();
  const [bytes] = await executable.read([output]);
  return { bytes: bytes!, dtype: output.dtype, recording };
}

/** Arithmetic and least traffic of the forward pass, for rates. */
export function caseWork(description: OpCase, target: Target): { readonly flops: number; readonly bytes: number } {
  const { flops, trafficBytes } = cost(finish(recordForward(description, target).plan, DISCRETE_LIMITS));
  return { flops, bytes: trafficBytes };
}
