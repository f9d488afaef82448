/**
 * The GPU side of one optimizer step: micro-batches add gradients, the update applies them. Recorded plans, one for
 * each shape of clips and one for the update, replayed for the whole run in the memory of the largest; everything that
 * changes from step to step is uploaded as data.
 */
import type { DType, Target } from "../../kernels/core/kernel.ts";
import { Arena, Executable } from "../gpu/executable.ts";
import type { Session } from "../gpu/session.ts";
import { NonFiniteError } from "../io/safetensors/finite.ts";
import { encodeF32, type StorageType } from "../io/safetensors/half.ts";
import type { Parameters } from "../models/transformer/parameters.ts";
import type { Bucket } from "../models/tensors/trainables.ts";
import { transformer, type TransformerInputs } from "../models/transformer/graph.ts";
import { isImageToVideo, type TransformerConfig } from "../models/transformer/config.ts";
import { type BatchShape, declareInputs, uploadTimesteps } from "../models/transformer/inputs.ts";
import { velocityLoss, velocityTarget } from "../ops/velocity.ts";
import { type CheckpointPolicy, Plan } from "../plan/plan.ts";
import type { RecordingLimits } from "../plan/limits.ts";
import { finish, type Recording } from "../plan/recording.ts";
import { Tensor } from "../plan/tensor.ts";
import { brokenTensor } from "./broken_tensor.ts";
import {
  declareOptimizer,
  type OptimizerConfig,
  type OptimizerTensors,
  recordUpdate,
  uploadControl,
  uploadState,
} from "../optim/update.ts";

/** What a training step is made of. */
export interface StepConfig {
  readonly model: TransformerConfig;
  readonly shape: BatchShape;
  /** Shapes of micro-batches beside `shape`, of buckets from the second on. */
  readonly otherShapes?: readonly BatchShape[];
  /** Storage of activations. */
  readonly activation: DType;
  readonly checkpointing: CheckpointPolicy;
  readonly optimizer: OptimizerConfig;
  /** Probability with which an element of an adapter's input is dropped. Default 0. */
  readonly dropout?: number;
  /** Micro-batches of all ranks per optimizer step. */
  readonly accumulation: number;
}

/** One micro-batch, as the host prepares it. All arrays are f32; frames include the padding of CogVideoX1.5. */
export interface MicroBatch {
  /** Which of the step's shapes it has. Default 0. */
  readonly bucket?: number;
  /** Scaled clean latents [B, f, 16, h, w]. */
  readonly latents: Float32Array<ArrayBuffer>;
  /** Standard normal noise of the same shape. */
  readonly noise: Float32Array<ArrayBuffer>;
  /** Image condition [B, f, 16, h, w] of image-to-video models. */
  readonly condition?: Float32Array<ArrayBuffer> | undefined;
  /** Prompt embeddings [B, Nt, X]. */
  readonly text: Float32Array<ArrayBuffer>;
  /** Timestep of each sample. */
  readonly timesteps: readonly number[];
  /** Cumulative alpha of each sample's timestep. */
  readonly alphas: readonly number[];
  /** Two words that name the micro-batch in the whole run, and padding: what dropout draws from. */
  readonly draws?: Uint32Array<ArrayBuffer>;
  /**
   * Weight of each sample in the loss: 1 / samples of the global micro-batch, 0 for one that only fills up a partial
   * batch.
   */
  readonly weights: readonly number[];
}

/** The resident tensors through which a micro-batch enters and its loss leaves. */
export interface BatchTensors {
  readonly inputs: TransformerInputs;
  readonly clean: Tensor;
  readonly noise: Tensor;
  readonly coefficients: Tensor;
  readonly loss: Tensor;
  /** u32 [4]: what dropout draws from; undefined without. */
  readonly draws: Tensor | undefined;
}

/** The plan of micro-batches of one shape. Loss and draws are the same tensors in those of all shapes. */
export interface MicroRecording extends BatchTensors {
  readonly shape: BatchShape;
  readonly micro: Recording;
}

/**
 * The tensors and plans of a step, made from shapes alone: what a forecast needs, and what {@linkcode TrainingStep}
 * runs. The plan for micro-batches is that of the first shape.
 */
export interface StepRecording extends MicroRecording {
  /** Plans of the other shapes. */
  readonly others: readonly MicroRecording[];
  /** f32 [accumulation, 4]: the loss of every micro-batch of the step, read once at its end. */
  readonly losses: Tensor;
  readonly optimizer: OptimizerTensors;
  readonly update: Recording;
}

/** The plans of all shapes, by bucket. */
export function microRecordings(
  recording: Pick<StepRecording, "others"> & MicroRecording,
): [MicroRecording, ...MicroRecording[]] {
  return [recording, ...recording.others];
}

/** Records the plans of a step. */
export function recordStep(
  target: Target,
  limits: RecordingLimits,
  config: StepConfig,
  parameters: Parameters,
  buckets: readonly Bucket[],
): StepRecording {
  const { shape, otherShapes = [], dropout = 0 } = config;
  const shared = {
    loss: resident("loss", [4]),
    draws: dropout > 0 ? new Tensor("dropout draws", [4], "u32", { resident: true }) : undefined,
  };
  const trained = shared.draws === undefined ? parameters : parameters.withDropout(dropout, shared.draws);
  const record = (shape: BatchShape) => recordMicro(target, limits, config, trained, { shape, ...shared });
  const first = record(shape);
  const others = otherShapes.map(record);
  const optimizer = declareOptimizer(config.optimizer, buckets);
  const update = recordUpdate(target, config.optimizer, buckets, optimizer, shared.loss);
  return {
    ...first,
    others,
    losses: resident("losses", [config.accumulation, 4]),
    optimizer,
    update: finish(update, limits),
  };
}

function resident(name: string, shape: readonly number[]): Tensor {
  return new Tensor(name, shape, "f32", { resident: true });
}

/** Records forward and backward for one shape. */
function recordMicro(
  target: Target,
  limits: RecordingLimits,
  config: StepConfig,
  parameters: Parameters,
  { shape, ...shared }: Pick<MicroRecording, "shape" | "loss" | "draws">,
): MicroRecording {
  const { model, activation, checkpointing } = config;
  const inputs = declareInputs(model, shape, activation, { separateCondition: isImageToVideo(model) });
  const tensors: BatchTensors = {
    inputs,
    clean: resident("clean latents", inputs.latents.shape),
    noise: resident("noise", inputs.latents.shape),
    coefficients: resident("coefficients", [shape.batch, 4]),
    ...shared,
  };
  const plan = new Plan({ target, checkpointing });
  const { predicted, gradient } = recordForward(plan, config, parameters, tensors);
  plan.backward(predicted, gradient);
  return { ...tensors, shape, micro: finish(plan, limits) };
}

/** Records noise, model and loss; returns the prediction and the gradient of the loss in it. */
function recordForward(
  plan: Plan,
  { model, activation }: StepConfig,
  parameters: Parameters,
  { inputs, clean, noise, coefficients, loss }: BatchTensors,
): { readonly predicted: Tensor; readonly gradient: Tensor } {
  const { noisy, velocity } = velocityTarget(plan, clean, noise, coefficients);
  const predicted = transformer(plan, model, parameters, { ...inputs, latents: noisy }, activation);
  return { predicted, gradient: velocityLoss(plan, predicted, velocity, coefficients, loss) };
}

/** Records the loss of a micro-batch without anything for backward, on the tensors of a step. */
export function recordLoss(target: Target, config: StepConfig, parameters: Parameters, tensors: BatchTensors): Plan {
  const plan = new Plan({ target });
  recordForward(plan, config, parameters, tensors);
  return plan;
}

/** Uploads a micro-batch without running it. `gradientScale` is loss scale / accumulation. */
export function uploadBatch(session: Session, tensors: BatchTensors, batch: MicroBatch, gradientScale: number): void {
  const { inputs, clean, noise, coefficients, draws } = tensors;
  if (draws !== undefined) session.write(draws, batch.draws!);
  session.write(clean, batch.latents);
  session.write(noise, batch.noise);
  session.write(inputs.text, encodeF32(batch.text, inputs.text.dtype as StorageType));
  if (inputs.condition !== undefined) session.write(inputs.condition, batch.condition!);
  uploadTimesteps(session, inputs, batch.timesteps);
  session.write(
    coefficients,
    Float32Array.from(batch.alphas.flatMap((a, b) => {
      const weight = batch.weights[b]!;
      return [Math.sqrt(a), Math.sqrt(1 - a), gradientScale * weight, weight];
    })),
  );
}

/** What an optimizer step reports. */
export interface StepResult {
  /** Loss of each micro-batch of the step. */
  readonly losses: readonly number[];
  /** Global gradient norm before clipping. */
  readonly gradientNorm: number;
  /** True when a non-finite loss or gradient left every weight unchanged. */
  readonly skipped: boolean;
  /** Prodigy's estimate of the distance to the solution, after the step. */
  readonly distance?: number;
}

/** A step bound to a device. */
export class TrainingStep implements Disposable {
  readonly #arena: Arena;
  /** By bucket. */
  readonly #micros: readonly Executable[];
  readonly #update: Executable;
  #microBatches = 0;

  constructor(
    readonly session: Session,
    readonly config: StepConfig,
    readonly recording: StepRecording,
    readonly buckets: readonly Bucket[],
  ) {
    const micros = microRecordings(recording).map(({ micro }) => micro);
    this.#arena = new Arena(session, [...micros, recording.update]);
    this.#micros = micros.map((micro) => new Executable(session, micro, this.#arena));
    this.#update = new Executable(session, recording.update, this.#arena);
  }

  /**
   * Starts an optimizer step: gradients become zero, and so does the loss, which a rank without micro-batches leaves
   * alone.
   */
  begin(): void {
    this.#microBatches = 0;
    this.session.clear([...this.buckets.map(({ gradients }) => gradients), this.recording.loss]);
  }

  /** Runs one micro-batch, adding to the gradients. `lossScale` keeps small f16 gradients from vanishing. */
  async micro(batch: MicroBatch, lossScale = 1): Promise<void> {
    const { loss, losses } = this.recording;
    this.upload(batch, lossScale);
    await this.#micros[batch.bucket ?? 0]!.run();
    this.session.copy(loss, losses, this.#microBatches++ * loss.bytes);
  }

  /** What is recorded for the shape of a micro-batch. */
  microOf({ bucket = 0 }: MicroBatch): MicroRecording {
    return microRecordings(this.recording)[bucket]!;
  }

  /** Uploads a micro-batch without running it. */
  upload(batch: MicroBatch, lossScale: number): void {
    uploadBatch(this.session, this.microOf(batch), batch, lossScale / this.config.accumulation);
  }

  /**
   * Applies the gradients. `step` counts applied updates from 1; `squares` is their sum of squares where the host knows
   * it. `meanwhile` runs while the GPU works.
   *
   * @throws {NonFiniteError} when a weight, moment or average that the update stored is NaN or infinite.
   */
  async update(
    learningRate: number,
    step: number,
    lossScale = 1,
    squares?: number,
    meanwhile?: () => void,
  ): Promise<StepResult> {
    const { losses, optimizer } = this.recording;
    const { control, rule: { distance } } = optimizer;
    uploadState(this.session, optimizer, { learningRate, step, lossScale });
    if (squares !== undefined) uploadControl(this.session, optimizer, this.config.optimizer, { squares, lossScale });
    await this.#update.run();
    meanwhile?.();
    const wanted = [control, losses, ...(distance === undefined ? [] : [distance])];
    const [figures, slots, estimate] = (await this.session.read(wanted)).map((bytes) => new Float32Array(bytes));
    const [gradientNorm, , skip, broken] = figures!;
    if (broken !== 0) throw new NonFiniteError(await brokenTensor(this.session, optimizer));
    return {
      losses: Array.from({ length: this.#microBatches }, (_, i) => slots![4 * i]!),
      gradientNorm: gradientNorm!,
      skipped: skip !== 0,
      ...(estimate === undefined ? {} : { distance: estimate[0]! }),
    };
  }

  [Symbol.dispose](): void {
    for (const micro of this.#micros) micro[Symbol.dispose]();
    this.#update[Symbol.dispose]();
    this.#arena[Symbol.dispose]();
  }
}
