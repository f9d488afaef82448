/** What a config means for the GPU: storage types, batch shape, declared tensors and what of them trains. Pure: no device, no files. */
import type { DType } from "../../kernels/core/kernel.ts";
import { UserError } from "../errors.ts";
import { declareLora, type Lora } from "../models/lora/adapters.ts";
import { declareTensors, foldedShapes, Parameters } from "../models/transformer/parameters.ts";
import { type Bucket, packTrainables, type Trainables } from "../models/tensors/trainables.ts";
import { parameterShapes, RELEASED, type TransformerConfig } from "../models/transformer/config.ts";
import type { BatchShape } from "../models/transformer/inputs.ts";
import type { Tensor } from "../plan/tensor.ts";
import type { TrainConfig } from "../config/config.ts";
import { type Shard, shardBuckets } from "./shards.ts";
import type { OptimizerConfig } from "../optim/update.ts";
import type { StepConfig } from "./training_step.ts";

/** The GPU side of a run. */
export interface RunDescription {
  readonly step: StepConfig;
  /** Checkpoint name and shape of every parameter. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** What the model reads. */
  readonly parameters: Parameters;
  readonly trainables: Trainables;
  /** This rank's share of the update, when optimizer state is sharded over GPUs. */
  readonly shard: Shard | undefined;
  /** What the update works on: all of `trainables`, or the shard. */
  readonly updated: readonly Bucket[];
  /** Set when adapters train. */
  readonly lora: Lora | undefined;
  /**
   * Where each checkpoint tensor is uploaded to: frozen weights, or masters when all weights train. Their working copies,
   * where there are some, are made on the GPU.
   */
  readonly uploads: ReadonlyMap<string, Tensor>;
}

/** Options of {@linkcode describeRun}. */
export interface RunOptions {
  /** Storage of frozen matrices when `mixed_precision` is `no`: that of the checkpoint. Default f32. */
  readonly stored?: DType;
  /** Which of the config's GPUs this process has. Default 0. */
  readonly rank?: number;
}

/** Storage of activations and working weights. */
export function workingType({ mixed_precision }: TrainConfig): DType {
  return mixed_precision === "no" ? "f32" : mixed_precision === "fp16" ? "f16" : "bf16";
}

/** Frames of a latent of `pixelFrames`, padded to whole patches in time (CogVideoX1.5 packs two latent frames). */
export function latentFrames(model: TransformerConfig, pixelFrames: number): number {
  const frames = Math.floor((pixelFrames - 1) / model.temporal_compression_ratio) + 1;
  const patch = model.patch_size_t ?? 1;
  return Math.ceil(frames / patch) * patch;
}

/** Shape of one micro-batch. A latent pixel is 8 x 8 pixels. */
export function batchShape(config: TrainConfig, model: TransformerConfig): BatchShape {
  const [frames, height, width] = config.train_resolution;
  return {
    batch: config.batch_size,
    frames: latentFrames(model, frames),
    height: height / 8,
    width: width / 8,
    textRows: model.max_text_seq_length,
  };
}

/**
 * The transformer that `model` names.
 *
 * @throws {UserError} when the config names none; the shape is then in the checkpoint's config.json.
 */
export function namedTransformer(config: TrainConfig): TransformerConfig {
  const known = config.model === undefined ? undefined : RELEASED[config.model];
  if (known === undefined) {
    throw new UserError(
      `model is ${config.model ?? "not set"}: the shape of the transformer is unknown`,
      `set model to one of ${Object.keys(RELEASED).join(", ")}`,
    );
  }
  return known;
}

function optimizerConfig(config: TrainConfig): OptimizerConfig {
  const { optimizer, beta1, beta2, beta3, epsilon, weight_decay, max_grad_norm, ema_decay, master_weights, seed } =
    config;
  return { optimizer, beta1, beta2, beta3, epsilon, weight_decay, max_grad_norm, ema_decay, master_weights, seed };
}

/** Packs all weights, and decides which of their tensors live in host memory. */
function packAll(
  config: TrainConfig,
  shapes: ReadonlyMap<string, readonly number[]>,
  { activation, streamed, sharded }: {
    readonly activation: DType;
    readonly streamed: boolean;
    readonly sharded: boolean;
  },
): Trainables {
  const masters = config.master_weights === "f32" ? "f32" : "bf16";
  const leaves = config.offload_optimizer || sharded;
  return packTrainables(foldedShapes(shapes), activation, {
    masters,
    // Without a working copy the model reads the masters themselves; in bf16 they are as small as the copy that would stay.
    values: (masters === "f32" && leaves) || (streamed && activation === masters),
    gradients: leaves,
    // What all ranks share is in the memory of the host, so parameters that no GPU holds as a whole are streamed from there.
    copies: streamed || (sharded && config.zero_stage === 3),
    alwaysCopy: sharded,
    trueShapes: shapes,
  });
}

/**
 * Decides storage types, declares every tensor of the run and says what trains: low-rank adapters with f32 masters over frozen
 * weights in the working type, or all weights, with f32 masters and working copies or in bf16 alone.
 *
 * @throws {UserError} when `target_modules` matches no layer.
 */
export function describeRun(
  config: TrainConfig,
  model: TransformerConfig,
  { stored = "f32", rank = 0 }: RunOptions = {},
): RunDescription {
  const activation = workingType(config);
  const step: StepConfig = {
    model,
    shape: batchShape(config, model),
    activation,
    checkpointing: {
      enabled: config.gradient_checkpointing,
      keep: config.keep,
      offload: config.offload_activations,
    },
    optimizer: optimizerConfig(config),
    accumulation: config.gradient_accumulation_steps,
  };
  const shapes = parameterShapes(model);
  const streamed = config.base_weights === "streamed";
  if (config.training_type === "sft") {
    const sharded = config.zero_stage >= 2 && config.gpus > 1;
    const trainables = packAll(config, shapes, { activation, streamed, sharded });
    const select = (pick: "working" | "master") => new Map([...trainables.byName].map(([name, t]) => [name, t[pick]]));
    const parameters = new Parameters(select("working"));
    const shard = sharded
      ? shardBuckets(trainables.buckets, { rank, size: config.gpus, offload: config.offload_optimizer })
      : undefined;
    const updated = shard?.buckets ?? trainables.buckets;
    return { step, shapes, parameters, trainables, shard, updated, lora: undefined, uploads: select("master") };
  }
  const matrix = config.mixed_precision === "no" ? stored : activation;
  const { base_weights } = config;
  const quantised = base_weights === "int8" || base_weights === "nf4" ? { quantised: base_weights } : {};
  const frozen = declareTensors(shapes, { matrix, vector: "f32", streamed, ...quantised });
  const adapters = { rank: config.rank, alpha: config.lora_alpha, targets: config.target_modules };
  const lora = declareLora(shapes, adapters, { values: config.offload_optimizer, gradients: config.offload_optimizer });
  const parameters = new Parameters(frozen, lora.adapters);
  const { trainables } = lora;
  return {
    step,
    shapes,
    parameters,
    trainables,
    shard: undefined,
    updated: trainables.buckets,
    lora,
    uploads: frozen,
  };
}
