/**
 * A small computation with a known answer, before a driver is trusted with hours: a matrix product with its
 * activation, sums over workgroups, both 16-bit types, and whether NaN and infinity are seen, on which the checks of
 * every step rest. Each is one that drivers and shader compilers were found to get wrong.
 */
import { clipControl } from "../../kernels/optimizer/adam.ts";
import { gemm } from "../../kernels/matrix/gemm.ts";
import { squareSlots, sumOfSquares } from "../../kernels/reduce/sums.ts";
import { convert } from "../../kernels/rows/flat.ts";
import { UserError } from "../errors.ts";
import { Plan } from "../plan/plan.ts";
import { finish } from "../plan/recording.ts";
import { Tensor } from "../plan/tensor.ts";
import { recordWork } from "../plan/work.ts";
import type { Device } from "./device.ts";
import { Executable } from "./executable.ts";
import { Session } from "./session.ts";

/**
 * Side of the square matrices: several tiles of every variant that a card may take. On a software driver the whole test
 * takes 0.15 s, most of it to compile seven kernels.
 */
const SIDE = 128;

/** Distance of a product from its answer, relative in L2: f32 sums in any order, or operands rounded to f16. */
const EXACT = 1e-5;
const MIXED = 2 ** -9;

/** Values in [-0.5, 0.5) with 8 bits, which f16 and bf16 hold exactly; without a period that a tile could hide. */
function values(multiplier: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: SIDE * SIDE }, (_, i) => ((i * multiplier) % 257 % 256 - 128) / 256);
}

/** The kernels' approximation, as PyTorch's `tanh` one. */
function gelu(x: number): number {
  return x / (1 + Math.exp(-1.5957691216057308 * x * (1 + 0.044715 * x * x)));
}

/** gelu(a b^T) in float64. */
function answer(a: Float32Array, b: Float32Array): Float64Array {
  const result = new Float64Array(SIDE * SIDE);
  for (let row = 0; row < SIDE; row++) {
    for (let column = 0; column < SIDE; column++) {
      let sum = 0;
      for (let k = 0; k < SIDE; k++) sum += a[row * SIDE + k]! * b[column * SIDE + k]!;
      result[row * SIDE + column] = gelu(sum);
    }
  }
  return result;
}

function distance(found: Float32Array, expected: ArrayLike<number>): number {
  let squares = 0, norm = 0;
  found.forEach((value, i) => {
    squares += (value - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  });
  return Math.sqrt(squares / norm);
}

/**
 * Runs the computation.
 *
 * @throws {UserError} that names the parts whose results are wrong.
 */
export async function selfTest(device: Device): Promise<void> {
  using session = new Session(device);
  const { target } = device;
  const plan = new Plan({ target });
  const resident = (name: string, size: number) => new Tensor(name, [size], "f32", { resident: true });
  const [a, b, product] = ["a", "b", "product"].map((name) => resident(name, SIDE * SIDE)) as [Tensor, Tensor, Tensor];
  const spec = { layout: "NT", a: "f32", b: "f32", c: "f32", activation: "gelu" } as const;
  recordWork(plan, gemm(target, spec, { m: SIDE, n: SIDE, k: SIDE }), { a, b, c: product });
  const halves = (["f16", "bf16"] as const).map((type) => {
    const half = plan.transient(type, [a.size], type);
    const back = resident(`${type} and back`, a.size);
    plan.launch(convert({ x: "f32", y: type }, { elements: a.size }), [a, half], [half]);
    plan.launch(convert({ x: type, y: "f32" }, { elements: a.size }), [half, back], [back]);
    return { type, back };
  });
  const [loss, state] = [resident("loss", 4), resident("state", 4)];
  const slots = squareSlots(a.size);
  const norms = [a, ...[NaN, Infinity, -Infinity].map((value) => resident(`${value}`, a.size))].map((x) => {
    const partials = plan.transient("partials", [slots, 4], "f32");
    const control = resident("control", 4);
    plan.launch(sumOfSquares(target, { x: "f32" }, { elements: x.size, slot: 0 }), [x, partials], [partials]);
    plan.launch(clipControl(target, { slots, maxNorm: 0 }), [partials, loss, state, control], [control]);
    return { x, control };
  });
  const [left, right] = [values(7919), values(104729)];
  session.write(a, left);
  session.write(b, right);
  session.write(state, Float32Array.of(0, 0, 0, 1));
  for (const { x } of norms.slice(1)) session.write(x, left.with(SIDE * SIDE / 2 + 5, Number(x.name)));
  using executable = new Executable(session, finish(plan, session.limits));
  await executable.run();
  const read = [product, ...halves.map(({ back }) => back), ...norms.map(({ control }) => control)];
  const [found, f16, bf16, ...controls] = (await session.read(read)).map((bytes) => new Float32Array(bytes));
  const norm = Math.hypot(...left);
  const [sound, ...spoilt] = controls;
  const parts = {
    "a matrix product": distance(found!, answer(left, right)) <= (target.mixed ? MIXED : EXACT),
    "numbers in f16": f16!.every((value, i) => value === left[i]),
    "numbers in bf16": bf16!.every((value, i) => value === left[i]),
    "a sum": Math.abs(sound![0]! / norm - 1) <= EXACT && sound![2] === 0,
    "the sight of NaN and infinity": spoilt.every(([, , skip]) => skip === 1),
  };
  const wrong = Object.entries(parts).flatMap(([name, isRight]) => isRight ? [] : [name]);
  if (wrong.length === 0) return;
  throw new UserError(
    `${device.title} gives wrong results for ${wrong.join(", ")}: nothing is computed on it`,
    "update or change the driver of the GPU, or take the other engine (`engine: deno` or `engine: dawn`); `doctor` shows " +
      "what there is",
  );
}
