/** Twelve optimizer steps of every golden training run: losses, gradient norms and final tensors of PyTorch in float64. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { alphasCumprod, parseScheduleConfig } from "../../lib/diffusion/schedule.ts";
import { Session } from "../../lib/gpu/session.ts";
import { declareLora } from "../../lib/models/lora.ts";
import { declareTensors, Parameters } from "../../lib/models/parameters.ts";
import { packTrainables, type Trainables } from "../../lib/models/trainables.ts";
import { parameterShapes, positionTableShape, type TransformerConfig } from "../../lib/models/transformer_config.ts";
import { uploadTables } from "../../lib/models/transformer_inputs.ts";
import { uploadTensors } from "../../lib/models/weights.ts";
import type { TensorSource } from "../../lib/io/safetensors.ts";
import {
  type MicroBatch,
  recordStep,
  type StepConfig,
  type StepResult,
  TrainingStep,
} from "../../lib/train/training_step.ts";
import { testDevice } from "../kernels/run.ts";
import { Golden, tinyTransformer } from "../models/golden.ts";
import { referenceTest } from "../reference.ts";

const VARIANTS = ["2b", "5b", "5b-i2v", "1.5-5b", "1.5-5b-i2v"];

interface RunConfig {
  readonly rank: number;
  readonly alpha: number;
  readonly accum: number;
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly weight_decay: number;
  readonly max_grad_norm: number;
  readonly optimizer_steps: number;
}

/** The model of a run and what trains in it; base weights keep their stored type, which widens exactly. */
async function prepare(
  session: Session,
  model: TransformerConfig,
  source: TensorSource,
  golden: Golden,
  run: RunConfig,
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
  const tensors = declareTensors(shapes, { matrix: stored, vector: "f32" });
  await uploadTensors(session, source, tensors);
  const lora = declareLora(shapes, { rank: run.rank, alpha: run.alpha, targets: ["to_q", "to_k", "to_v", "to_out.0"] });
  for (const [name, { master }] of lora.trainables.byName) session.write(master, golden.f32(`init.${name}`));
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

async function runGolden(folder: string, variant: string, kind: string): Promise<void> {
  using golden = new Golden(`${folder}/training/${variant}.${kind}.safetensors`);
  const index = JSON.parse(readFileSync(`${folder}/index.json`, "utf8")) as {
    cases: { file: string; config: RunConfig }[];
  };
  const run = index.cases.find(({ file }) => file === `training/${variant}.${kind}.safetensors`)!.config;
  const { config: model, source } = tinyTransformer(folder, variant);
  using _closing = source;
  const { device } = await testDevice();
  using session = new Session(device);
  const { parameters, trainables } = await prepare(session, model, source, golden, run);
  const schedulePath = `${folder}/pipelines/tiny-${variant}/scheduler/scheduler_config.json`;
  const alphas = alphasCumprod(parseScheduleConfig(JSON.parse(readFileSync(schedulePath, "utf8")), schedulePath));

  const [, , latentFrames, height, width] = golden.shape("latents") as [number, number, number, number, number];
  const pad = model.patch_size_t === null ? 0 : latentFrames % model.patch_size_t;
  const batch = golden.shape("sample_index")[1]!;
  const shape = { batch, frames: latentFrames + pad, height, width, textRows: golden.shape("prompt_embeds")[1]! };
  const config: StepConfig = {
    model,
    shape,
    activation: "f32",
    checkpointing: { enabled: true, keep: [] },
    accumulation: run.accum,
    optimizer: {
      optimizer: "adamw",
      beta1: run.betas[0],
      beta2: run.betas[1],
      beta3: 0.98,
      epsilon: run.eps,
      weight_decay: run.weight_decay,
      max_grad_norm: run.max_grad_norm,
      ema_decay: 0,
    },
  };
  const recording = recordStep(device.target, session.limits, config, parameters, trainables.buckets);
  const table = positionTableShape(model);
  const learned = table === undefined ? undefined : source.readF32(table.name);
  uploadTables(session, model, shape, recording.inputs, { learned });
  using step = new TrainingStep(session, config, recording, trainables.buckets);
  const results: StepResult[] = [];
  const rates = golden.f64("lr");
  const initial = await session.read(trainables.buckets.map(({ values }) => values));
  for (let k = 0; k < run.optimizer_steps; k++) {
    step.begin();
    for (let i = 0; i < run.accum; i++) await step.micro(microBatch(golden, k * run.accum + i, alphas, pad));
    results.push(await step.update(rates[k]!, k + 1));
  }
  const losses = results.flatMap((result) => result.losses);
  golden.f64("loss").forEach((expected, i) => {
    assert.ok(Math.abs(losses[i]! - expected) <= 2e-5 * expected, `loss ${i}: ${losses[i]}, expected ${expected}`);
  });
  golden.f64("grad_norm").forEach((expected, k) => {
    const actual = results[k]!.gradientNorm;
    assert.ok(Math.abs(actual - expected) <= 1e-4 * expected, `gradient norm ${k}: ${actual}, expected ${expected}`);
  });
  const initialBuckets = initial.map((bytes) => new Float32Array(bytes));
  const error = await finalError(folder, variant, kind, golden, session, trainables, initialBuckets);
  assert.ok(error <= 2e-4, `final tensors differ by ${error} of the size of the update`);
}

/** |final - expected| over |expected - initial|, both over everything stored. */
async function finalError(
  folder: string,
  variant: string,
  kind: string,
  golden: Golden,
  session: Session,
  trainables: Trainables,
  initial: readonly Float32Array[],
): Promise<number> {
  using separate = kind === "sft" ? new Golden(`${folder}/training/${variant}.sft.final.safetensors`) : undefined;
  const expectedOf = separate ?? golden;
  let difference = 0;
  let update = 0;
  for (const [name, { master }] of trainables.byName) {
    if (variant === "2b" && name.endsWith("norm_k.bias")) continue;
    const stored = expectedOf.f32(kind === "sft" ? name : `final.${name}`);
    const rows = expectedOf.shape(kind === "sft" ? name : `final.${name}`)[0]!;
    const actual = await session.readF32(master);
    const bucket = trainables.buckets.findIndex(({ values }) => values === master.owner);
    const before = initial[bucket]!.subarray(master.byteOffset / 4, master.byteOffset / 4 + master.size);
    const rowLength = stored.length / rows;
    const stride = actual.length === stored.length ? 1 : 8;
    for (let i = 0; i < stored.length; i++) {
      const at = Math.floor(i / rowLength) * stride * rowLength + i % rowLength;
      difference += (actual[at]! - stored[i]!) ** 2;
      update += (stored[i]! - before[at]!) ** 2;
    }
  }
  return Math.sqrt(difference / update);
}

for (const variant of VARIANTS) {
  for (const kind of ["lora-r4", "lora-r8", "sft"]) {
    referenceTest(
      `training ${variant} ${kind} reproduces the reference run`,
      (folder) => runGolden(folder, variant, kind),
    );
  }
}
