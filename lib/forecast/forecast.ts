/**
 * What a run needs, phase by phase, from shapes alone: the plans that the run executes are recorded and priced, so a
 * forecast can't differ from the run.
 */
import { type DType, plainTarget, type Target } from "../../kernels/core/kernel.ts";
import { promptsAtOnce, recordT5 } from "../models/t5/graph.ts";
import { T5_XXL, type T5Config } from "../models/t5/config.ts";
import { latentSize, type TransformerConfig } from "../models/transformer/config.ts";
import { forecastVae } from "../models/vae/chunks.ts";
import { RELEASED_VAE, type VaeConfig, type VaePart } from "../models/vae/config.ts";
import { DISCRETE_LIMITS, type RecordingLimits } from "../plan/limits.ts";
import { arenaBytes, cost, type Recording } from "../plan/recording.ts";
import { livePeak } from "../plan/live.ts";
import { align, type Tensor } from "../plan/tensor.ts";
import { recordDenoise } from "../sample/denoise.ts";
import type { TrainConfig } from "../config/config.ts";
import { clipShapes } from "../config/derive.ts";
import type { Forecast, MemoryPart, PhaseForecast } from "./needs.ts";
import {
  batchShape,
  describeRun,
  namedTransformer,
  roundsProducts,
  type RunDescription,
} from "../step/run_description.ts";
import { microRecordings, recordStep, type StepRecording } from "../step/training_step.ts";

/** Recordings that make up the work of a phase, with how often each runs. */
export interface PhaseWork {
  readonly recording: Recording;
  readonly runs: number;
}

/** A phase with what it was forecast from. */
export interface RecordedPhase extends PhaseForecast {
  /** What its work consists of. */
  readonly work: readonly PhaseWork[];
}

/** A forecast with what it was made from. */
export interface RecordedForecast extends Forecast {
  readonly phases: readonly RecordedPhase[];
}

/** What a forecast assumes. */
export interface ForecastOptions {
  /** Shape of the transformer; by default the one that the config names. */
  readonly model?: TransformerConfig;
  /**
   * Shapes of the encoders; by default those of all released models. Tiny models are forecast without encoders
   * otherwise.
   */
  readonly encoders?: { readonly t5: T5Config; readonly vae: VaeConfig };
  /** The phases before training, when an earlier forecast with the same encoders and clips has recorded them. */
  readonly encoding?: readonly RecordedPhase[];
  /** Storage of the checkpoint's matrices, which frozen weights keep without mixed precision. Default f32. */
  readonly stored?: DType;
  /** Kernels of this target; by default those of GPUs with subgroups of 32. */
  readonly target?: Target;
  readonly limits?: RecordingLimits;
}

/** What plans are recorded for. */
interface Device {
  readonly target: Target;
  readonly limits: RecordingLimits;
}

/** The tensors whose memory holds a tensor. */
function storageOf({ owner }: Tensor): Tensor[] {
  return owner.quantised === undefined ? [owner] : [owner.quantised.codes, owner.quantised.scales];
}

/** Sum of the GPU memory of tensors. */
export function gpuBytes(tensors: Iterable<Tensor>): number {
  const owners = new Set([...tensors].flatMap(storageOf));
  return [...owners].reduce((sum, owner) => owner.host ? sum : sum + align(owner.bytes), 0);
}

function phase(
  name: string,
  unit: string,
  parts: readonly MemoryPart[],
  work: readonly PhaseWork[],
  hosts: Iterable<Tensor> = [],
): RecordedPhase {
  const costs = work.map(({ recording, runs }) => ({ cost: cost(recording), runs }));
  const total = (key: "launches" | "flops" | "uploadBytes" | "downloadBytes") =>
    costs.reduce((sum, { cost, runs }) => sum + cost[key] * runs, 0);
  return {
    name,
    unit,
    parts: parts.filter(({ bytes }) => bytes > 0),
    gpuBytes: parts.reduce((sum, { bytes }) => sum + bytes, 0),
    hostBytes: [...new Set(hosts)].reduce((sum, tensor) => sum + align(tensor.bytes), 0),
    launches: total("launches"),
    flops: total("flops"),
    uploadBytes: total("uploadBytes"),
    downloadBytes: total("downloadBytes"),
    work,
  };
}

/** Memory of the plans themselves: arena buffers shared by all, uniform blocks of each. */
function planParts(recordings: readonly Recording[]): MemoryPart[] {
  return [
    { name: "arena", bytes: arenaBytes(recordings) },
    { name: "uniforms", bytes: recordings.reduce((sum, recording) => sum + cost(recording).uniformBytes, 0) },
  ];
}

/** What stays on the GPU from the first step to the last, the plans' own memory apart. */
export function residentParts(run: RunDescription, recording: StepRecording): MemoryPart[] {
  const { trainables: { buckets }, updated } = run;
  const counted = new Set<Tensor>();
  const part = (name: string, tensors: Iterable<Tensor>) => {
    const fresh = [...new Set([...tensors].flatMap(storageOf))].filter((owner) => !counted.has(owner));
    for (const owner of fresh) counted.add(owner);
    return { name, bytes: gpuBytes(fresh) };
  };
  const trained = run.lora === undefined ? "master weights" : "adapters";
  return [
    part(trained, updated.map(({ values }) => values)),
    part("working weights", buckets.flatMap(({ copy }) => copy === undefined ? [] : [copy])),
    part("gradients", buckets.map(({ gradients }) => gradients)),
    part("optimizer state", recording.optimizer.states.values()),
    part("frozen weights", run.parameters.tensors.values()),
    part("inputs", [
      recording.losses,
      ...microRecordings(recording).flatMap(({ micro }) => micro.residents),
      ...recording.update.residents,
    ]),
  ];
}

/** Host tensors with memory of their own. */
function hostTensors({ shard }: RunDescription, used: readonly Tensor[]): Tensor[] {
  const aliases = new Set(shard?.aliases.map(({ tensor }) => tensor));
  return [...used, ...shard?.gathered ?? []].filter((tensor) => !aliases.has(tensor));
}

/**
 * The training step: everything resident and the arena of its plans; its work is that of micro-batches of the largest
 * shape.
 */
export function trainPhase(run: RunDescription, recording: StepRecording): RecordedPhase {
  const { update } = recording;
  const micros = microRecordings(recording).map(({ micro }) => micro);
  const micro = largest(micros, (micro) => cost(micro).flops);
  return phase(
    "training",
    "step",
    [...residentParts(run, recording), ...planParts([...micros, update])],
    [{ recording: micro, runs: run.step.accumulation / run.ranks }, { recording: update, runs: 1 }],
    hostTensors(run, [...micros, update].flatMap(({ hosts }) => hosts)),
  );
}

/** Prompts through the text encoder, as many as are encoded together, a layer at a time. */
function textPhase(t5: T5Config, tokens: number, device: Device): RecordedPhase {
  const prompts = promptsAtOnce(t5, tokens);
  const { block, final, weights, ...tensors } = recordT5(t5, { prompts, tokens, dtype: "bf16", ...device });
  const parts = [
    { name: "one layer", bytes: gpuBytes(weights.values()) },
    { name: "inputs", bytes: gpuBytes(Object.values(tensors)) },
    // Both plans are bound at once, each with memory of its own.
    ...[block, final].flatMap((recording) => planParts([recording])),
  ];
  return phase("text encoding", `${prompts} prompts`, parts, [{ recording: block, runs: t5.num_layers }, {
    recording: final,
    runs: 1,
  }]);
}

/** Writing a checkpoint: everything stays where it is, and one tensor after another comes down. */
function savePhase(run: RunDescription, { optimizer }: StepRecording, training: RecordedPhase): RecordedPhase {
  const masters = run.updated.map(({ values }) => values);
  // Masters come down twice: for the files that other programs load, and for the exact continuation.
  const down = [...masters, ...masters, ...optimizer.states.values()].filter(({ host }) => !host);
  return {
    ...training,
    name: "saving",
    unit: "checkpoint",
    launches: 0,
    flops: 0,
    uploadBytes: 0,
    downloadBytes: down.reduce((sum, tensor) => sum + tensor.bytes, 0),
    work: [],
  };
}

/** One video through half of the autoencoder, tile by tile and chunk by chunk; `beside` stays on the GPU meanwhile. */
function vaePhase(
  name: string,
  part: VaePart,
  size: readonly [number, number, number],
  { vae, tiled, device, beside, dtype = "f32" }: {
    readonly vae: VaeConfig;
    readonly tiled: boolean;
    readonly device: Device;
    readonly beside: readonly MemoryPart[];
    readonly dtype?: DType;
  },
): RecordedPhase {
  const chunks = forecastVae(vae, part, size, { dtype, ...device, ...(tiled ? {} : { tiling: false as const }) });
  const memory = chunks.map(({ recording }) => [
    { name: part, bytes: gpuBytes(recording.residents) },
    ...planParts([recording]),
  ]);
  const sum = (parts: readonly MemoryPart[]) => parts.reduce((total, { bytes }) => total + bytes, 0);
  const largest = memory.reduce((best, parts) => sum(parts) > sum(best) ? parts : best);
  return phase(name, "video", [...beside, ...largest], chunks);
}

/** Sampling with the trained weights in place, the arena of training gone. */
function samplePhase(
  config: TrainConfig,
  run: RunDescription,
  { target, limits }: Device,
  beside: readonly MemoryPart[],
): RecordedPhase {
  const { model, activation } = run.step;
  const shape = batchShape(config, model);
  const recording = recordDenoise(target, limits, {
    model,
    shape,
    activation,
    guidance: config.guidance_scale > 1 ? "sequential" : "off",
    stochastic: config.sampler === "dpm",
  }, run.parameters);
  const { model: predict, step } = recording;
  const known = new Set([
    ...run.parameters.tensors.values(),
    ...run.trainables.buckets.flatMap((bucket) => [
      bucket.values,
      ...(bucket.copy === undefined ? [] : [bucket.copy]),
    ]),
  ].flatMap(storageOf));
  const own = [recording.sequential?.velocity, recording.sequential?.positive, recording.sequential?.negative]
    .filter((tensor) => tensor !== undefined);
  const inputs = [...predict.residents, ...step.residents, ...own].filter((tensor) => !known.has(tensor));
  const parts = [
    ...beside,
    { name: "sampler inputs", bytes: gpuBytes(inputs) },
    ...planParts([predict]),
    ...planParts([step]),
  ];
  const steps = config.num_inference_steps;
  const passes = config.guidance_scale > 1 ? 2 : 1;
  return phase("validation sampling", "video", parts, [{ recording: predict, runs: steps * passes }, {
    recording: step,
    runs: steps,
  }], predict.hosts);
}

/**
 * Forecasts every phase of a run from the config alone: no GPU, no weights, no data.
 *
 * @throws {UserError} when the config names no known model.
 * @example
 * ```ts
 * import { forecast, parseConfig } from "@cogtune/cogtune";
 *
 * const { peakBytes, peakPhase } = forecast(parseConfig("preset: 5b-lora"));
 * if (peakPhase !== "training" || peakBytes > 24 * 2 ** 30) throw new Error("5b-lora needs a card of 24 GiB");
 * ```
 */
export function forecast(config: TrainConfig): Forecast {
  return recordForecast(config);
}

/**
 * Forecasts every phase of a run from its recordings.
 *
 * @throws {UserError} when the config names no known model and `model` is not given.
 */
export function recordForecast(config: TrainConfig, options: ForecastOptions = {}): RecordedForecast {
  const { model = namedTransformer(config), limits = DISCRETE_LIMITS } = options;
  // As runs are recorded, so that their problems have the same keys.
  const { target = { ...plainTarget(32), mixed: roundsProducts(config) } } = options;
  const device = { target, limits };
  const run = describeRun(config, model, { stored: options.stored ?? "f32" });
  const recording = recordStep(target, limits, run.step, run.parameters, run.updated);
  const training = trainPhase(run, recording);
  const encoding = options.encoding ?? encoderPhases(config, model, device, options);
  const phases = [...encoding, training, savePhase(run, recording, training)];
  if (config.do_validation) phases.push(...validationPhases(config, run, recording, device, options));
  const peak = largest(phases, ({ gpuBytes }) => gpuBytes);
  const { micro } = largest(microRecordings(recording), ({ micro }) => arenaBytes([micro]));
  return { phases, peakBytes: peak.gpuBytes, peakPhase: peak.name, live: liveParts(micro) };
}

function encodersOf({ model }: TrainConfig, { encoders }: ForecastOptions): ForecastOptions["encoders"] {
  return encoders ?? (model?.startsWith("tiny-") ? undefined : { t5: T5_XXL, vae: RELEASED_VAE });
}

function encoderPhases(
  config: TrainConfig,
  { max_text_seq_length }: TransformerConfig,
  device: Device,
  options: ForecastOptions,
): RecordedPhase[] {
  const encoders = encodersOf(config, options);
  if (encoders === undefined) return [];
  const { t5, vae } = encoders;
  const encoding = { vae, tiled: config.enable_tiling, device, beside: [] };
  return [
    textPhase(t5, max_text_seq_length, device),
    largest(
      clipShapes(config).map((shape) => vaePhase("video encoding", "encoder", shape, encoding)),
      ({ gpuBytes }) => gpuBytes,
    ),
  ];
}

function validationPhases(
  config: TrainConfig,
  run: RunDescription,
  recording: StepRecording,
  device: Device,
  options: ForecastOptions,
): RecordedPhase[] {
  const beside = residentParts(run, recording);
  const sampling = samplePhase(config, run, device, beside);
  const vae = encodersOf(config, options)?.vae;
  if (vae === undefined) return [sampling];
  const { frames, height, width } = latentSize(run.step.model, config.train_resolution);
  const decoding = { vae, tiled: config.enable_tiling, device, beside, dtype: run.step.activation };
  return [sampling, vaePhase("validation decoding", "decoder", [frames, height, width], decoding)];
}

/** The first of those with the highest score. */
function largest<T>(candidates: readonly T[], score: (candidate: T) => number): T {
  return candidates.reduce((best, candidate) => score(candidate) > score(best) ? candidate : best);
}

/** Largest shares of the arena at its fullest, tensors of one name together. */
function liveParts({ steps }: Recording): MemoryPart[] {
  const byName = new Map<string, number>();
  for (const { tensor, bytes } of livePeak(steps).tensors) {
    const name = tensor.name.replace(/^(d )?transformer_blocks\.\d+\./, "$1block ");
    byName.set(name, (byName.get(name) ?? 0) + bytes);
  }
  return [...byName].map(([name, bytes]) => ({ name, bytes })).sort((a, b) => b.bytes - a.bytes);
}
