/** The gradient of an op in the middle of a graph, by the plan and by float64 differences of the op's definition. */
import { foldGrid, type Launch, type Target, THREADS } from "../../kernels/core/kernel.ts";
import { buildKernel } from "../../kernels/core/wgsl.ts";
import { addInPlace } from "../../kernels/rows/flat.ts";
import { Executable } from "../../lib/gpu/executable.ts";
import type { Session } from "../../lib/gpu/session.ts";
import { addTensors } from "../../lib/ops/add.ts";
import { Plan } from "../../lib/plan/plan.ts";
import { finish } from "../../lib/plan/recording.ts";
import { elements, Tensor } from "../../lib/plan/tensor.ts";
import { numbers } from "../kernels/run.ts";
import { caseValues, type OpCase } from "./op_case.ts";

/** Factor in front of every input: the op's gradient has to pass through something. */
const FACTOR = 1.5;

/** Where the other consumer of the inputs stands: before the op in the recording, behind it, or nowhere. */
export type Order = "before" | "after";

type Numbers = Float32Array<ArrayBuffer>;

/** A constant of the loss, with its values. */
export interface Weight {
  readonly tensor: Tensor;
  readonly values: Numbers;
}

export const weightOf = ({ shape }: Tensor, seed: number): Weight => ({
  tensor: new Tensor("loss weights", shape, "f32", { resident: true }),
  values: numbers(elements(shape), seed),
});

/** y = factor * x. Buffers: x, y. */
function scale(elements: number, factor: number): Launch {
  const kernel = buildKernel({
    name: "scale",
    spec: {},
    params: ["count4", "factor:f32"],
    buffers: [{ name: "x", dtype: "f32" }, { name: "y", dtype: "f32" }],
    workgroupSize: THREADS,
    body: "if (gid < params.count4) { store_y(gid, params.factor * load_x(gid)); }",
  });
  const count4 = elements / 4;
  return { kernel, params: [count4, factor], grid: foldGrid(Math.ceil(count4 / THREADS)), flops: elements };
}

function scaled(plan: Plan, x: Tensor): Tensor {
  const y = plan.transient("scaled", x.shape, "f32", [x]);
  plan.launch(scale(x.size, FACTOR), [x, y], [y]);
  return plan.differentiable(y, (g) => {
    plan.contribute(x, (dx) => plan.launch(scale(x.size, FACTOR), [g, dx], [dx]));
  });
}

/** The gradient of a transient or input once the backward pass has been recorded. */
export function gradientOf(plan: Plan, tensor: Tensor): Tensor {
  let found: Tensor | undefined;
  plan.contribute(tensor, (gradient) => found = gradient);
  return found!;
}

/** Goes backward from the sum of weight * tensor over all pairs. */
export function backward(plan: Plan, terms: readonly (readonly [Tensor, Weight])[]): void {
  const root = new Tensor("loss", [4], "f32", { needsGrad: true });
  plan.differentiable(root, () => {
    for (const [tensor, { tensor: weight }] of terms) {
      plan.contribute(tensor, (d, accumulate) => {
        const launch = accumulate ? addInPlace({ a: "f32", b: "f32" }, { elements: d.size }) : scale(d.size, 1);
        plan.launch(launch, accumulate ? [d, weight] : [weight, d], [d]);
      });
    }
  });
  plan.backward(root, plan.transient("seed", [4], "f32"));
}

/** Gradients of sum(c op(1.5 x, p)) + sum(c' (1.5 x + k)) for all inputs x and parameters p. */
export interface Gradients {
  readonly byName: ReadonlyMap<string, Float64Array>;
  /** Weights of the op's output, and of the second consumer of each input that has one. */
  readonly output: Numbers;
  readonly others: ReadonlyMap<string, Numbers>;
}

/** Records and runs the graph on the device of `session`, in which it leaves what the operands hold. */
export async function planGradients(
  session: Session,
  description: OpCase,
  target: Target,
  order: Order,
): Promise<Gradients> {
  const { operands, record } = description;
  const values = caseValues(description);
  const plan = new Plan({ target });
  const leaves = new Map<string, Tensor>();
  const inner: Record<string, Tensor> = {};
  for (const [name, { shape, role }] of Object.entries(operands)) {
    const gradient = new Tensor(`grad ${name}`, shape, "f32", { resident: true });
    const options = role === "parameter" ? { gradient } : { needsGrad: role === "input" };
    const leaf = new Tensor(name, shape, "f32", { resident: true, ...options });
    leaves.set(name, leaf);
    session.write(leaf, values.get(name)!);
    // Gradients of trained tensors are added to what is there.
    if (role === "parameter") session.write(gradient, values.get(name)!);
    inner[name] = role === "input" ? scaled(plan, leaf) : leaf;
  }
  const others = new Map<string, Weight>();
  const terms: [Tensor, Weight][] = [];
  const consume = () => {
    for (const [name, { role, shared = "both" }] of Object.entries(operands)) {
      if (role !== "input" || shared === "never") continue;
      const tensor = inner[name]!;
      const other = weightOf(tensor, 50 + others.size);
      others.set(name, other);
      terms.push([addTensors(plan, tensor, new Tensor("offset", tensor.shape, "f32", { resident: true })), other]);
    }
  };
  if (order === "before") consume();
  const y = record(plan, inner);
  const output = weightOf(y, 40);
  if (order === "after") consume();
  backward(plan, [[y, output], ...terms]);
  const wanted = [...leaves].filter(([, { needsGrad }]) => needsGrad);
  const gradients = wanted.map(([, leaf]) => plan.output(gradientOf(plan, leaf)));
  using executable = new Executable(session, finish(plan, session.limits));
  for (const { tensor, values } of [output, ...others.values()]) session.write(tensor, values);
  await executable.run();
  const read = await executable.read(gradients);
  return {
    byName: new Map(wanted.map(([name, leaf], i) => {
      const before = values.get(name)!;
      const sums = new Float32Array(read[i]!);
      return [name, Float64Array.from(sums, (v, at) => leaf.gradient === undefined ? v : v - before[at]!)];
    })),
    output: output.values,
    others: new Map([...others].map(([name, { values }]) => [name, values])),
  };
}

/** Step of the differences: half the digits of float64 for the division, the other half for the curvature. */
const STEP = 1e-5;
/** Larger operands are checked at some elements one by one, and as a whole in some directions. */
const ALL_ELEMENTS = 160;
const SOME_ELEMENTS = 48;
const DIRECTIONS = 3;

/** The worst relative error of the gradients of one case: over its operands, elements and directions. */
export function gradientError(
  description: OpCase,
  gradients: Gradients,
): { readonly error: number; readonly where: string } {
  const { operands, reference } = description;
  const stored = caseValues(description);
  const values: Record<string, Float64Array> = {};
  for (const [name, { role }] of Object.entries(operands)) {
    values[name] = Float64Array.from(stored.get(name)!, (v) => role === "input" ? FACTOR * v : v);
  }
  const loss = () => reference(values).reduce((sum, v, i) => sum + v * gradients.output[i]!, 0);
  /** Change of the loss per unit of movement of one operand along `direction`. */
  const slope = (name: string, direction: (i: number) => number, only?: number): number => {
    const original = values[name]!;
    const factor = operands[name]!.role === "input" ? FACTOR : 1;
    const moved = (by: number) => {
      if (only === undefined) values[name] = original.map((v, i) => v + by * factor * direction(i));
      else {
        values[name] = original.slice();
        values[name][only]! += by * factor;
      }
      return loss();
    };
    const through = (moved(STEP) - moved(-STEP)) / (2 * STEP);
    values[name] = original;
    const other = gradients.others.get(name);
    if (other === undefined) return through;
    return through + factor * (only === undefined ? other.reduce((s, v, i) => s + v * direction(i), 0) : other[only]!);
  };
  let worst = { error: 0, where: "nowhere" };
  const note = (error: number, where: string) => {
    if (!(error <= worst.error)) worst = { error, where };
  };
  for (const [name, gradient] of gradients.byName) {
    const size = gradient.length;
    const count = size <= ALL_ELEMENTS ? size : SOME_ELEMENTS;
    const places = Array.from({ length: count }, (_, i) => size <= ALL_ELEMENTS ? i : (i * 7919 + 13) % size);
    const expected = places.map((at) => slope(name, () => 0, at));
    const norm = Math.hypot(...expected);
    note(Math.hypot(...places.map((at, i) => gradient[at]! - expected[i]!)) / norm, name);
    if (size <= ALL_ELEMENTS) continue;
    const length = Math.sqrt(gradient.reduce((sum, v) => sum + v * v, 0));
    for (let d = 0; d < DIRECTIONS; d++) {
      const direction = numbers(size, 90 + d);
      const along = gradient.reduce((sum, v, i) => sum + v * direction[i]!, 0);
      note(Math.abs(along - slope(name, (i) => direction[i]!)) / length, `${name} along direction ${d}`);
    }
  }
  return worst;
}
