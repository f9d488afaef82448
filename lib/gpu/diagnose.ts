/**
 * Finds the first tensor of a plan that holds a NaN or an infinity, by running it once more with a check behind every
 * launch.
 */
import { finishSum, squareSlots, sumOfSquares } from "../../kernels/reduce/sums.ts";
import { Plan } from "../plan/plan.ts";
import { finish, type Recording } from "../plan/recording.ts";
import { Tensor } from "../plan/tensor.ts";
import { Executable } from "./executable.ts";
import type { Session } from "./session.ts";

/** Bytes between the results of two checks: the alignment of bindings. */
const STRIDE = 256;

/**
 * Runs `recording` on its present inputs and names what the first launch with a non-finite result wrote, or undefined
 * when all results are finite. Sums of squares overflow at values above 1.8e19, which counts as non-finite here.
 */
export async function firstNonFinite(session: Session, recording: Recording): Promise<string | undefined> {
  const { target } = session.device;
  const plan = new Plan({ target });
  const checked: Tensor[] = [];
  const count = recording.steps.reduce(
    (sum, { writes }) => sum + writes.filter(({ dtype }) => dtype !== "u32").length,
    0,
  );
  const results = new Tensor("checks", [count * STRIDE / 4], "f32", { resident: true });
  for (const step of recording.steps) {
    plan.steps.push(step);
    for (const tensor of step.writes) {
      if (tensor.dtype === "u32") continue;
      const slots = squareSlots(tensor.size);
      const partials = plan.transient("check", [slots, 4], "f32");
      const result = results.window("result", checked.length * STRIDE / 4, [4]);
      const shape = { elements: tensor.size, slot: 0 };
      plan.launch(sumOfSquares(target, { x: tensor.dtype }, shape), [tensor, partials], [partials]);
      plan.launch(finishSum(target, { slots, scale: 1 }), [partials, result], [result]);
      checked.push(tensor);
    }
  }
  try {
    using executable = new Executable(session, finish(plan, session.limits));
    await executable.run();
    const values = await session.readF32(results);
    const bad = checked.findIndex((_, i) => !Number.isFinite(values[i * STRIDE / 4]!));
    return bad < 0 ? undefined : checked[bad]!.name;
  } finally {
    session.free(results);
  }
}
