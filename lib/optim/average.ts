/** The exponential moving average of the trained weights, which is saved beside them and usually samples better. */
import { movingAverage } from "../../kernels/optimizer/average.ts";
import type { Session } from "../gpu/session.ts";
import type { Bucket, Trainables } from "../models/tensors/trainables.ts";
import type { Plan } from "../plan/plan.ts";
import type { Tensor } from "../plan/tensor.ts";
import { besideMasters } from "./rule.ts";

/** Declares one f32 tensor `average.<bucket>` for every bucket of masters. */
export function declareAverages(buckets: readonly Bucket[]): Tensor[] {
  return buckets.map((bucket, i) => besideMasters(`average.${i}`, bucket.values.size, bucket));
}

/** Records average += (1 - decay)(masters - average), left out by the GPU when the step is skipped. */
export function recordAverages(
  plan: Plan,
  decay: number,
  buckets: readonly Bucket[],
  averages: readonly Tensor[],
  control: Tensor,
): void {
  buckets.forEach(({ values }, i) => {
    const average = averages[i]!;
    const launch = movingAverage({ elements: values.size, decay });
    plan.launch(launch, [average, values, control], [average, control]);
    plan.release();
  });
}

/** Starts the averages at the masters as they are. */
export async function startAverages(
  session: Session,
  buckets: readonly Bucket[],
  averages: readonly Tensor[],
): Promise<void> {
  for (const [i, average] of averages.entries()) {
    const [masters] = await session.read([buckets[i]!.values]);
    session.write(average, new Uint8Array(masters!));
    await session.flush();
  }
}

/**
 * The same trainables with the averages as their masters: what writes a model writes the averaged one when given these.
 */
export function averagedTrainables({ buckets, byName }: Trainables, averages: readonly Tensor[]): Trainables {
  const averageOf = new Map(buckets.map(({ values }, i) => [values.owner, averages[i]!]));
  return {
    buckets,
    byName: new Map([...byName].map(([name, trainable]) => {
      const { master, shape } = trainable;
      const average = averageOf.get(master.owner)!;
      return [name, { ...trainable, master: average.window(name, master.byteOffset / 4, shape) }];
    })),
  };
}
