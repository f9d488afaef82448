/** Optimizer steps on a tiny model with made-up weights and data: what memory policies are compared on. */
import { Executable } from "../../lib/gpu/executable.ts";
import type { Session } from "../../lib/gpu/session.ts";
import { positionTableShape } from "../../lib/models/transformer/config.ts";
import { uploadTables } from "../../lib/models/transformer/inputs.ts";
import { writeValues } from "../../lib/models/tensors/weights.ts";
import { Plan } from "../../lib/plan/plan.ts";
import type { RecordingLimits } from "../../lib/plan/limits.ts";
import { finish } from "../../lib/plan/recording.ts";
import { convert } from "../../kernels/rows/flat.ts";
import { parseConfig, type TrainConfig } from "../../lib/config/config.ts";
import { describeRun, namedTransformer, type RunDescription } from "../../lib/step/run_description.ts";
import {
  type MicroBatch,
  type MicroRecording,
  microRecordings,
  recordStep,
  TrainingStep,
} from "../../lib/step/training_step.ts";
import { numbers, testDevice } from "../kernels/run.ts";
import { LimitedSession } from "../limited_session.ts";

/** Text of a config for a tiny model. */
export function tinyConfig(settings: Readonly<Record<string, unknown>>): TrainConfig {
  return parseConfig("", {
    overrides: { train_resolution: "9x48x80", gradient_accumulation_steps: 2, rank: 8, ...settings },
  });
}

/** How a run differs from what its config says. */
export interface TinyOptions {
  /** Rows of the feed-forward at once. */
  readonly rows?: number;
  /** Limits that differ from the device's own. */
  readonly limits?: (own: RecordingLimits) => Partial<RecordingLimits>;
  /** Changes the values of frozen weights before they are stored. */
  readonly weights?: (name: string, values: Float32Array<ArrayBuffer>, width: number) => Float32Array<ArrayBuffer>;
}

/** Fills every uploaded tensor: matrices small and random, norm scales near one. */
export async function fillWeights(
  session: Session,
  { uploads, trainables, lora }: RunDescription,
  { weights = (_, values) => values }: TinyOptions,
): Promise<void> {
  let seed = 1;
  for (const [name, tensor] of uploads) {
    const scale = name.includes("norm") && name.endsWith(".weight") ? 1 : 0;
    const values = numbers(tensor.size, seed++).map((x) => scale + x / 4);
    writeValues(session, tensor, weights(name, values, tensor.width));
  }
  if (lora !== undefined) {
    for (const { master } of trainables.byName.values()) session.write(master, numbers(master.size, seed++));
  }
  const plan = new Plan({ target: session.device.target });
  for (const { values, copy } of trainables.buckets) {
    if (copy === undefined) continue;
    const launch = convert({ x: "f32", y: copy.dtype }, { elements: values.size });
    plan.launch(launch, [values, copy], [copy]);
    plan.release();
  }
  using executable = new Executable(session, finish(plan, session.limits));
  await executable.run();
  await session.host.settle();
}

/** Made-up data of one micro-batch of a bucket. */
export function microBatch({ clean, inputs }: MicroRecording, seed: number, bucket = 0): MicroBatch {
  const batch = clean.shape[0]!;
  return {
    bucket,
    latents: numbers(clean.size, seed),
    noise: numbers(clean.size, seed + 1000),
    condition: inputs.condition && numbers(inputs.condition.size, seed + 2000),
    text: numbers(inputs.text.size, seed + 3000),
    timesteps: Array.from({ length: batch }, (_, i) => 100 + 300 * i + seed),
    alphas: Array.from({ length: batch }, (_, i) => 0.7 - 0.2 * i),
    weights: Array.from({ length: batch }, () => 1 / batch),
    draws: Uint32Array.of(7, seed, 0, 0),
  };
}

/** What a run leaves behind. */
export interface TinyResult {
  readonly losses: readonly number[];
  readonly norms: readonly number[];
  /** Masters after the last step, bucket by bucket. */
  readonly masters: readonly Float32Array[];
  /** GPU and host bytes while everything is allocated. */
  readonly gpuBytes: number;
  readonly hostBytes: number;
  /** Bytes of the largest buffer. */
  readonly largestBuffer: number;
}

/** Trains two optimizer steps. */
export async function runTiny(config: TrainConfig, options: TinyOptions = {}): Promise<TinyResult> {
  const { rows, limits = () => ({}) } = options;
  const { device } = await testDevice();
  using session = new LimitedSession(device, limits(device.limits));
  const model = namedTransformer(config);
  const described = describeRun(config, model);
  const checkpointing = { ...described.step.checkpointing, ...(rows === undefined ? {} : { rows }) };
  const run = { ...described, step: { ...described.step, checkpointing } };
  const { trainables: { buckets }, updated, shard } = run;
  const recording = recordStep(device.target, session.limits, run.step, run.parameters, updated);
  await fillWeights(session, run, options);
  if (shard !== undefined) {
    for (const { values } of buckets) session.free(values);
    for (const { tensor, of, byteOffset } of shard.aliases) session.host.alias(tensor, of, byteOffset);
  }
  const shapes = microRecordings(recording);
  for (const { shape, inputs } of shapes) {
    const learned = positionTableShape(model) && numbers(inputs.positions!.size);
    uploadTables(session, model, shape, inputs, { learned });
  }
  session.peakBytes = session.allocatedBytes;
  using step = new TrainingStep(session, run.step, recording, buckets);
  const losses: number[] = [];
  const norms: number[] = [];
  for (let k = 0; k < 2; k++) {
    step.begin();
    for (let i = 0; i < config.gradient_accumulation_steps; i++) {
      const bucket = i % shapes.length;
      await step.micro(microBatch(shapes[bucket]!, 10 * k + i, bucket));
    }
    const result = await step.update(1e-3, k + 1);
    losses.push(...result.losses);
    norms.push(result.gradientNorm);
  }
  const masters = (await session.read(updated.map(({ values }) => values))).map((bytes) => new Float32Array(bytes));
  const { peakBytes: gpuBytes, largestBuffer, host: { allocatedBytes: hostBytes } } = session;
  return { losses, norms, masters, gpuBytes, hostBytes, largestBuffer };
}
