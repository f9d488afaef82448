/**
 * What a config means for the GPU: storage types, batch shape, declared tensors and what of them trains. Pure: no
 * device, no files.
 */
import type { DType } from "../../kernels/core/kernel.ts";
import { UserError } from "../errors.ts";
import { declareLora, type Lora } from "../models/lora/adapters.ts";
import { declareTensors, foldedShapes, Parameters } from "../models/transformer/parameters.ts";
import { type Bucket, packTrainables, type Trainables } from "../models/tensors/trainables.ts";
import { latentSize, parameterShapes, RELEASED, type TransformerConfig } from "../models/transformer/config.ts";
import type { BatchShape } from "../models/transformer/inputs.ts";
import { elements, type Tensor } from "../plan/tensor.ts";
import type { TrainConfig } from "../config/config.ts";
import { clipShapes, layerValues } from "../config/derive.ts";
import type { Resolution } from "../config/groups/data.ts";
import { type Shard, shardBuckets } from "./shards.ts";
import type { OptimizerConfig } from "../optim/update.ts";
import type { StepConfig } from "./training_step.ts";

/** The GPU side of a run. */
export interface RunDescription {
  /** The step as it is recorded: `ranks` and the way their gradients are summed are in it. */
  readonly step: StepConfig;
  /** Processes that train together. */
  readonly ranks: number;
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
   * Where each checkpoint tensor is uploaded to: frozen weights, or masters when all weights train. Their working
   * copies, where there are some, are made on the GPU.
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

/** Whether the products of a run may round their operands to f16. */
export function roundsProducts({ matmul_precision, mixed_precision }: TrainConfig): boolean {
  return matmul_precision === "mixed" && mixed_precision !== "no";
}

/** Shape of one micro-batch of clips of a resolution. */
export function batchShape(
  { batch_size, train_resolution }: Pick<TrainConfig, "batch_size" | "train_resolution">,
  model: TransformerConfig,
  resolution: Resolution = train_resolution,
): BatchShape {
  const { frames, padding, height, width } = latentSize(model, resolution);
  return {
    batch: batch_size,
    frames: frames + padding,
    height,
    width,
    textRows: model.max_text_seq_length,
  };
}

/**
 * The transformer that `model` names.
 *
 * @throws {UserError} when the config names none; the shape is then in the checkpoint's config.json.
 */
export function namedTransformer(config: TrainConfig): TransformerConfig {
  if (config.model !== undefined) return RELEASED[config.model];
  throw new UserError(
    "model is not set: the shape of the transformer is unknown",
    `set model to one of ${Object.keys(RELEASED).join(", ")}`,
  );
}

/** Whether each rank updates a part of the weights only. */
function isSharded({ training_type, zero_stage, gpus }: TrainConfig): boolean {
  return training_type === "sft" && zero_stage >= 2 && gpus > 1;
}

/**
 * The host has all gradients, and so computes their norm, where the GPU sees a shard of them or they are summed in a
 * fixed order.
 */
function optimizerConfig(config: TrainConfig): OptimizerConfig {
  const { optimizer, beta1, beta2, beta3, epsilon, weight_decay, max_grad_norm, ema_decay, master_weights, seed } =
    config;
  const hostNorm = isSharded(config) || config.reduction === "canonical";
  const rule = { beta1, beta2, beta3, epsilon, weight_decay, master_weights, seed };
  return { ...rule, optimizer, max_grad_norm, ema_decay, hostNorm };
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
    // Without a working copy the model reads the masters themselves; in bf16 they are as small as the copy that would
    // stay.
    values: (masters === "f32" && leaves) || (streamed && activation === masters),
    gradients: leaves,
    // What all ranks share is in the memory of the host, so parameters that no GPU holds as a whole are streamed from
    // there.
    copies: streamed || (sharded && config.zero_stage === 3),
    alwaysCopy: sharded,
    trueShapes: shapes,
  });
}

/**
 * Decides storage types, declares every tensor of the run and says what trains: low-rank adapters with f32 masters over
 * frozen weights in the working type, or all weights, with f32 masters and working copies or in bf16 alone.
 *
 * @throws {UserError} when `target_modules` matches no layer.
 */
export function describeRun(
  config: TrainConfig,
  model: TransformerConfig,
  { stored = "f32", rank = 0 }: RunOptions = {},
): RunDescription {
  const activation = workingType(config);
  const [shape, ...otherShapes] = clipShapes(config).map((resolution) => batchShape(config, model, resolution));
  const step: StepConfig = {
    model,
    shape: shape!,
    otherShapes,
    activation,
    checkpointing: {
      enabled: config.gradient_checkpointing,
      keep: config.keep,
      offload: config.offload_activations,
    },
    optimizer: optimizerConfig(config),
    dropout: config.training_type === "lora" ? config.lora_dropout : 0,
    accumulation: config.gradient_accumulation_steps * config.gpus,
  };
  const ranks = config.gpus;
  const shapes = parameterShapes(model);
  const streamed = config.base_weights === "streamed";
  if (config.training_type === "sft") {
    const sharded = isSharded(config);
    const trainables = packAll(config, shapes, { activation, streamed, sharded });
    const select = (pick: "working" | "master") => new Map([...trainables.byName].map(([name, t]) => [name, t[pick]]));
    const parameters = new Parameters(select("working"));
    const shard = sharded
      ? shardBuckets(trainables.buckets, { rank, size: ranks, offload: config.offload_optimizer })
      : undefined;
    const updated = shard?.buckets ?? trainables.buckets;
    return { step, ranks, shapes, parameters, trainables, shard, updated, lora: undefined, uploads: select("master") };
  }
  const matrix = config.mixed_precision === "no" ? stored : activation;
  const { base_weights } = config;
  const quantised = base_weights === "int8" || base_weights === "nf4" ? { quantised: base_weights } : {};
  const frozen = declareTensors(shapes, { matrix, vector: "f32", streamed, ...quantised });
  const adapters = {
    rank: config.rank,
    alpha: config.lora_alpha,
    targets: config.target_modules,
    ranks: layerValues(config.rank_pattern),
    alphas: layerValues(config.alpha_pattern),
    rankStabilised: config.use_rslora,
    decomposed: config.use_dora,
  };
  const lora = declareLora(shapes, adapters, { values: config.offload_optimizer, gradients: config.offload_optimizer });
  const parameters = new Parameters(frozen, lora.adapters);
  const { trainables } = lora;
  return {
    step,
    ranks,
    shapes,
    parameters,
    trainables,
    shard: undefined,
    updated: trainables.buckets,
    lora,
    uploads: frozen,
  };
}

/** Values that train, without padding. */
export function trainedParameters({ trainables }: RunDescription): number {
  return [...trainables.byName.values()].reduce((sum, { trueShape }) => sum + elements(trueShape), 0);
}
