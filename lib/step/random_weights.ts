/** Weights that nobody has trained, for measuring: the same bits for the same seed, in every process. */
import type { DType } from "../../kernels/core/kernel.ts";
import { noise, noiseOnHost } from "../../kernels/rows/noise.ts";
import { RandomStream } from "../data/random/random.ts";
import { Executable } from "../gpu/executable.ts";
import type { Session } from "../gpu/session.ts";
import { writeValues } from "../models/tensors/weights.ts";
import { Plan } from "../plan/plan.ts";
import { finish } from "../plan/recording.ts";
import type { Tensor } from "../plan/tensor.ts";

/** Elements drawn on the host at a time: whole groups of four scales of every quantised tensor. */
const HOST_BLOCK = 2 ** 22;

/**
 * Fills tensors: matrices with uniform numbers of variance 1 / columns, which keeps activations near one; norm weights
 * with ones, biases with zeros. What lies on the GPU is drawn there, at 310 million numbers a second on llvmpipe (bf16,
 * two cores that had other work too); what lies in host memory or is quantised is drawn on the host, at 95 million.
 * Normal numbers of {@linkcode RandomStream} come at 20 million.
 */
export async function drawWeights(session: Session, seed: number, tensors: ReadonlyMap<string, Tensor>): Promise<void> {
  const plan = new Plan({ target: session.device.target });
  let number = 0;
  for (const [name, tensor] of tensors) {
    const stream = new RandomStream({ seed, purpose: "weights", step: 1, sample: number++ });
    const shape = { elements: tensor.size, seed: stream.uint32(), scale: Math.sqrt(12 / tensor.width) };
    if (tensor.shape.length === 1) {
      writeValues(session, tensor, new Float32Array(tensor.size).fill(name.endsWith(".weight") ? 1 : 0));
    } else if (!tensor.host && tensor.quantised === undefined) {
      plan.launch(noise({ y: tensor.dtype as Exclude<DType, "u32"> }, shape), [tensor], [tensor]);
      plan.release();
    } else {
      for (let first = 0; first < tensor.size; first += HOST_BLOCK) {
        const elements = Math.min(HOST_BLOCK, tensor.size - first);
        writeValues(session, tensor, noiseOnHost({ ...shape, elements }, first), first);
        await session.flush();
      }
    }
  }
  if (plan.steps.length === 0) return;
  using executable = new Executable(session, finish(plan, session.limits));
  await executable.run();
}
