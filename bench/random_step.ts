/** Whole optimizer steps of a model with random weights, from upload to the loss read back: no checkpoint, no encoders. */
import type { Target } from "../kernels/core/kernel.ts";
import { noiseOnHost } from "../kernels/rows/noise.ts";
import { parseConfig } from "../lib/config/config.ts";
import { trainPhase } from "../lib/forecast/forecast.ts";
import { Session } from "../lib/gpu/session.ts";
import type { TransformerConfig } from "../lib/models/transformer/config.ts";
import { uploadTables } from "../lib/models/transformer/inputs.ts";
import { initialiseOptimizer } from "../lib/optim/update.ts";
import { cost } from "../lib/plan/recording.ts";
import type { Tensor } from "../lib/plan/tensor.ts";
import { refreshCopies } from "../lib/step/model_state.ts";
import { drawWeights } from "../lib/step/random_weights.ts";
import { describeRun } from "../lib/step/run_description.ts";
import { type MicroBatch, recordStep, type StepResult, TrainingStep } from "../lib/step/training_step.ts";
import type { Bench } from "./harness.ts";

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

/** Columns that adapters are scaled for. Activations far from one saturate every softmax, and subnormal numbers are slow on llvmpipe. */
const WIDTH_OF_ADAPTERS = 384;

/** Uploads random weights and data, the same in every process; `target` replaces the device's own. */
export async function prepareStep(
  { device }: Bench,
  { model, settings }: StepCase,
  target: Target = device.target,
): Promise<RandomStep> {
  const run = describeRun(parseConfig("", { overrides: settings }), model);
  const { uploads, updated, trainables: { buckets } } = run;
  let drawn = 0;
  const draw = ({ size }: Tensor, width = 1) =>
    noiseOnHost({ elements: size, seed: drawn++, scale: Math.sqrt(12 / width) });
  const session = new Session(device);
  const recording = recordStep(target, session.limits, run.step, run.parameters, buckets);
  await drawWeights(session, 0, uploads);
  if (run.lora !== undefined) {
    for (const { values } of buckets) {
      session.write(values, draw(values, WIDTH_OF_ADAPTERS));
    }
  }
  await refreshCopies(session, run);
  await initialiseOptimizer(session, updated, recording.optimizer);
  uploadTables(session, model, run.step.shape, recording.inputs);
  const step = new TrainingStep(session, run.step, recording, buckets);
  const { clean, noise, inputs } = recording;
  const batch: MicroBatch = {
    latents: draw(clean),
    noise: draw(noise),
    condition: inputs.condition && draw(inputs.condition),
    text: draw(inputs.text),
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
