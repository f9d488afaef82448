/** Repeats a stored training run and measures how far losses, gradient norms and final tensors are from it. */
import { readFileSync } from "node:fs";
import type { DType, Target } from "../../kernels/core/kernel.ts";
import { alphasCumprod, parseScheduleConfig } from "../../lib/diffusion/schedule.ts";
import { Session } from "../../lib/gpu/session.ts";
import type { TensorSource } from "../../lib/io/safetensors/safetensors.ts";
import { declareLora, resizeMatrix } from "../../lib/models/lora/adapters.ts";
import { declareTensors, Parameters } from "../../lib/models/transformer/parameters.ts";
import { packTrainables, type Trainables } from "../../lib/models/tensors/trainables.ts";
import { parameterShapes, positionTableShape, type TransformerConfig } from "../../lib/models/transformer/config.ts";
import { openTransformer } from "../../lib/models/transformer/file.ts";
import { uploadTables } from "../../lib/models/transformer/inputs.ts";
import { uploadTensors } from "../../lib/models/tensors/weights.ts";
import {
  type MicroBatch,
  recordStep,
  type StepConfig,
  type StepResult,
  TrainingStep,
} from "../../lib/step/training_step.ts";
import { LossScale } from "../../lib/optim/loss_scale.ts";
import { testDevice } from "../kernels/run.ts";
import { Golden } from "../models/golden.ts";
import { casesOf, pipelineOf, type ReferenceCase, referenceCases, referencePath } from "../reference.ts";
import { takeRows } from "../models/transformer/case.ts";

/** How a stored run was made; `rank` is absent where all weights train. */
interface RunConfig {
  readonly optimizer: "adamw" | "adam";
  readonly rank?: number;
  readonly alpha: number;
  readonly accum: number;
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly weight_decay: number;
  readonly max_grad_norm: number;
  readonly optimizer_steps: number;
}

/** Largest relative distances of a repeated run. */
export interface TrainingDistances {
  readonly loss: number;
  readonly gradientNorm: number;
  /** |final - stored| over |stored - initial|, over everything stored. */
  readonly final: number;
  /** Steps that a non-finite number made void. */
  readonly skipped: number;
}

/** What a repeated run computes with. */
export interface Arithmetic {
  readonly target: Target;
  /** Storage of activations and, where it is not f32, of frozen matrices. */
  readonly activation: DType;
}

/** The stored runs: LoRAs of every rank, and runs that train all weights. */
export function trainingCases(): ReferenceCase[] {
  return casesOf("training", "loss");
}

/** File of the final tensors of a run that stores them apart. */
export function finalFile({ file }: ReferenceCase): string | undefined {
  const name = file.replace(/\.safetensors$/, ".final.safetensors");
  return referenceCases.has(name) ? name : undefined;
}

/** The model of a run and what trains in it; beside f32 activations base weights keep their stored type, which widens exactly. */
async function prepare(
  session: Session,
  model: TransformerConfig,
  source: TensorSource,
  golden: Golden,
  run: RunConfig,
  activation: DType,
): Promise<{ parameters: Parameters; trainables: Trainables }> {
  const shapes = parameterShapes(model);
  if (run.rank === undefined) {
    const flat = new Map([...declareTensors(shapes, { matrix: "f32", vector: "f32" })].map(([n, t]) => [n, t.shape]));
    const trainables = packTrainables(flat, "f32");
    const tensors = new Map([...trainables.byName].map(([name, { working }]) => [name, working]));
    await uploadTensors(session, source, tensors);
    return { parameters: new Parameters(tensors), trainables };
  }
  const stored = source.tensors.values().next().value!.dtype.toLowerCase() as "f32" | "f16" | "bf16";
  const matrix = activation === "f32" ? stored : activation;
  const tensors = declareTensors(shapes, { matrix, vector: "f32" });
  await uploadTensors(session, source, tensors);
  const layers = golden.names.flatMap((name) => /^init\.(.*)\.lora_A\.weight$/.exec(name)?.[1] ?? []);
  const lora = declareLora(shapes, { rank: run.rank, alpha: run.alpha, targets: layers });
  for (const [name, { master, trueShape }] of lora.trainables.byName) {
    session.write(master, resizeMatrix(golden.f32(`init.${name}`), trueShape, master.shape));
  }
  return { parameters: new Parameters(tensors, lora.adapters), trainables: lora.trainables };
}

/** Frames of the golden files come channel first and unpadded; the model wants them frame first. */
function framesFirst(latent: Float32Array, channels: number, frames: number, pad: number): Float32Array<ArrayBuffer> {
  const plane = latent.length / channels / frames;
  const out = new Float32Array((frames + pad) * channels * plane);
  for (let f = 0; f < frames + pad; f++) {
    for (let c = 0; c < channels; c++) {
      const from = (c * frames + Math.max(0, f - pad)) * plane;
      out.set(latent.subarray(from, from + plane), (f * channels + c) * plane);
    }
  }
  return out;
}

function microBatch(golden: Golden, m: number, alphas: Float64Array, pad: number): MicroBatch {
  const [, channels, frames] = golden.shape("latents") as number[];
  const at = (name: string, index: number, count = 1) => {
    const all = golden.f32(name);
    const size = all.length / golden.shape(name)[0]!;
    return all.slice(index * size, (index + count) * size);
  };
  const batch = golden.shape("sample_index")[1]!;
  const samples = golden.integers("sample_index").slice(m * batch, (m + 1) * batch);
  const timesteps = golden.integers("timesteps").slice(m * batch, (m + 1) * batch);
  const join = (parts: Float32Array[]) => Float32Array.from(parts.flatMap((part) => [...part]));
  const latents = join(samples.map((i) => framesFirst(at("latents", i), channels!, frames!, pad)));
  let condition: Float32Array<ArrayBuffer> | undefined;
  if (golden.has("image_latents")) {
    condition = new Float32Array(latents.length);
    const image = at("image_latents", m);
    samples.forEach((_, b) =>
      condition!.set(
        image.subarray(b * image.length / batch, (b + 1) * image.length / batch),
        b * latents.length / batch,
      )
    );
  }
  return {
    latents,
    noise: at("noise", m),
    condition,
    text: join(samples.map((i) => at("prompt_embeds", i))),
    timesteps,
    alphas: timesteps.map((t) => alphas[t]!),
    weights: timesteps.map(() => 1 / batch),
  };
}

function stepConfig(model: TransformerConfig, golden: Golden, run: RunConfig, activation: DType): StepConfig {
  const [, , latentFrames, height, width] = golden.shape("latents") as [number, number, number, number, number];
  const frames = latentFrames + padding(model, latentFrames);
  const batch = golden.shape("sample_index")[1]!;
  return {
    model,
    shape: { batch, frames, height, width, textRows: golden.shape("prompt_embeds")[1]! },
    activation,
    checkpointing: { enabled: true, keep: [] },
    accumulation: run.accum,
    optimizer: {
      optimizer: run.optimizer,
      beta1: run.betas[0],
      beta2: run.betas[1],
      beta3: 0.98,
      epsilon: run.eps,
      weight_decay: run.weight_decay,
      max_grad_norm: run.max_grad_norm,
      ema_decay: 0,
    },
  };
}

/** Frames that CogVideoX1.5 puts in front so that its patches come out even. */
function padding({ patch_size_t }: TransformerConfig, latentFrames: number): number {
  return patch_size_t === null ? 0 : latentFrames % patch_size_t;
}

/** Repeats a stored run on the weights it was made with, in f32 and with the device's own kernels unless told otherwise. */
export async function repeatTraining(stored: ReferenceCase, arithmetic?: Arithmetic): Promise<TrainingDistances> {
  const pipeline = pipelineOf(stored);
  using golden = new Golden(referencePath(stored.file));
  const run = golden.config as unknown as RunConfig;
  using opened = openTransformer(pipeline);
  const { config: model, source } = opened;
  const { device } = await testDevice();
  const { target, activation } = arithmetic ?? { target: device.target, activation: "f32" };
  using session = new Session(device);
  const { parameters, trainables } = await prepare(session, model, source, golden, run, activation);
  const schedulePath = `${pipeline}/scheduler/scheduler_config.json`;
  const alphas = alphasCumprod(parseScheduleConfig(JSON.parse(readFileSync(schedulePath, "utf8")), schedulePath));
  const config = stepConfig(model, golden, run, activation);
  const recording = recordStep(target, session.limits, config, parameters, trainables.buckets);
  const table = positionTableShape(model);
  const learned = table === undefined ? undefined : source.readF32(table.name);
  uploadTables(session, model, config.shape, recording.inputs, { learned });
  using step = new TrainingStep(session, config, recording, trainables.buckets);

  const { value: scale } = new LossScale(activation === "f16", undefined);
  const results: StepResult[] = [];
  const rates = golden.f64("lr");
  const pad = padding(model, golden.shape("latents")[2]!);
  const before = await session.read(trainables.buckets.map(({ values }) => values));
  for (let k = 0; k < run.optimizer_steps; k++) {
    step.begin();
    for (let i = 0; i < run.accum; i++) await step.micro(microBatch(golden, k * run.accum + i, alphas, pad), scale);
    results.push(await step.update(rates[k]!, k + 1, scale));
  }
  const relative = (values: readonly number[], exact: Float64Array) =>
    Math.max(...exact.map((expected, i) => Math.abs(values[i]! - expected) / expected));
  const initial = before.map((bytes) => new Float32Array(bytes));
  const apart = finalFile(stored);
  using separate = apart === undefined ? undefined : new Golden(referencePath(apart));
  return {
    loss: relative(results.flatMap((result) => result.losses), golden.f64("loss")),
    gradientNorm: relative(results.map(({ gradientNorm }) => gradientNorm), golden.f64("grad_norm")),
    final: await finalDistance(session, model, trainables, initial, separate ?? golden),
    skipped: results.filter(({ skipped }) => skipped).length,
  };
}

/** |final - stored| over |stored - initial|, both over everything stored. */
async function finalDistance(
  session: Session,
  model: TransformerConfig,
  trainables: Trainables,
  initial: readonly Float32Array[],
  golden: Golden,
): Promise<number> {
  let difference = 0;
  let update = 0;
  for (const [name, { master, trueShape }] of trainables.byName) {
    // Its exact gradient is zero without rotary positions, and Adam turns rounding into steps.
    if (!model.use_rotary_positional_embeddings && name.endsWith("norm_k.bias")) continue;
    const key = golden.has(`final.${name}`) ? `final.${name}` : name;
    const stored = golden.f32(key);
    const rows = golden.shape(key)[0]!;
    const bucket = trainables.buckets.findIndex(({ values }) => values === master.owner);
    const start = initial[bucket]!.slice(master.byteOffset / 4, master.byteOffset / 4 + master.size);
    const [before, after] = [start, await session.readF32(master)].map((values) => {
      const used = golden.has(`init.${name}`) ? resizeMatrix(values, master.shape, trueShape) : values;
      return takeRows(used, stored.length, rows);
    }) as [Float32Array, Float32Array];
    stored.forEach((expected, i) => {
      difference += (after[i]! - expected) ** 2;
      update += (expected - before[i]!) ** 2;
    });
  }
  return Math.sqrt(difference / update);
}
