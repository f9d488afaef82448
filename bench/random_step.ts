/** Whole optimizer steps of a model with random weights, from upload to the loss read back: no checkpoint, no encoders. */
import type { DType, Target } from "../kernels/core/kernel.ts";
import { parseConfig } from "../lib/config/config.ts";
import { trainPhase } from "../lib/forecast/forecast.ts";
import { Session } from "../lib/gpu/session.ts";
import { encodeF32, type StorageType } from "../lib/io/safetensors/half.ts";
import type { TransformerConfig } from "../lib/models/transformer/config.ts";
import { uploadTables } from "../lib/models/transformer/inputs.ts";
import { initialiseOptimizer } from "../lib/optim/update.ts";
import { cost } from "../lib/plan/recording.ts";
import type { Tensor } from "../lib/plan/tensor.ts";
import { refreshCopies } from "../lib/step/model_state.ts";
import { describeRun } from "../lib/step/run_description.ts";
import { type MicroBatch, recordStep, type StepResult, TrainingStep } from "../lib/step/training_step.ts";
import { type Bench, randomBytes } from "./harness.ts";

/** What is trained. */
export interface StepCase {
  readonly model: TransformerConfig;
  /** Config keys, among them a `model` with the same layers. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** A step ready to be repeated. */
export interface RandomStep extends Disposable {
  readonly flops: number;
  readonly dispatches: number;
  readonly tokens: number;
  /** Bytes of all buffers, and what `plan` says of them. */
  readonly gpuBytes: number;
  readonly planBytes: number;
  run(): Promise<StepResult>;
}

/** Columns that adapters are scaled for. */
const WIDTH_OF_ADAPTERS = 384;

/**
 * Factor of [-0.5, 0.5) for a deviation of 1 / sqrt(width), which keeps activations near one. Wider ones saturate every softmax, and the
 * subnormal numbers that come of it make a step three times as slow on llvmpipe.
 */
function scaleFor(width: number): number {
  return Math.sqrt(12 / width);
}

/** Norm weights of one, biases of zero. */
function constant(name: string, size: number): Float32Array<ArrayBuffer> {
  return new Float32Array(size).fill(name.endsWith(".weight") ? 1 : 0);
}

/** Uploads random weights and data, the same in every process; `target` replaces the device's own. */
export async function prepareStep(
  { device }: Bench,
  { model, settings }: StepCase,
  target: Target = device.target,
): Promise<RandomStep> {
  const run = describeRun(parseConfig("", { overrides: settings }), model);
  const { uploads, updated, trainables: { buckets } } = run;
  let drawn = 0;
  const draw = (size: number, dtype: DType, width: number) => randomBytes(size, dtype, scaleFor(width), drawn++);
  const floats = ({ size }: Tensor) => new Float32Array(draw(size, "f32", 1).buffer);
  const session = new Session(device);
  const recording = recordStep(target, session.limits, run.step, run.parameters, buckets);
  for (const [name, tensor] of uploads) {
    const start = tensor.shape.length > 1
      ? draw(tensor.size, tensor.dtype, tensor.width)
      : encodeF32(constant(name, tensor.size), tensor.dtype as StorageType);
    session.write(tensor, start);
    await session.flush();
  }
  if (run.lora !== undefined) {
    for (const { values } of buckets) {
      session.write(values, draw(values.size, "f32", WIDTH_OF_ADAPTERS));
    }
  }
  await refreshCopies(session, run);
  await initialiseOptimizer(session, updated, recording.optimizer);
  uploadTables(session, model, run.step.shape, recording.inputs);
  const step = new TrainingStep(session, run.step, recording, buckets);
  const { clean, noise, inputs } = recording;
  const batch: MicroBatch = {
    latents: floats(clean),
    noise: floats(noise),
    condition: inputs.condition && floats(inputs.condition),
    text: floats(inputs.text),
    timesteps: [500],
    alphas: [0.5],
    weights: [1],
  };
  const [micro, update] = [cost(recording.micro), cost(recording.update)];
  const { frames, height, width, textRows } = run.step.shape;
  let count = 0;
  return {
    flops: micro.flops + update.flops,
    dispatches: micro.launches + update.launches,
    tokens: textRows + frames * height * width / model.patch_size ** 2 / (model.patch_size_t ?? 1),
    gpuBytes: session.allocatedBytes,
    planBytes: trainPhase(run, recording).gpuBytes,
    async run() {
      step.begin();
      await step.micro(batch);
      return await step.update(1e-5, ++count);
    },
    [Symbol.dispose]() {
      step[Symbol.dispose]();
      session[Symbol.dispose]();
    },
  };
}
