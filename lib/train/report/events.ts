/**
 * What happens in a training run, as `train()` tells it: the one source of progress lines, metric files and dashboards.
 */
import type { DownloadEvent } from "../../models/folder/hub.ts";
import type { TuneEvent } from "../../tune/tune.ts";
import type { ProfileFigures } from "../profile/figures.ts";

export type { DownloadEvent } from "../../models/folder/hub.ts";
export type { TuneEvent } from "../../tune/tune.ts";

/** The run is planned and about to load weights. */
export interface StartedEvent {
  /** Tells events apart. */
  readonly type: "started";
  /** Optimizer step the run starts after: 0, or the step of the checkpoint it continues. */
  readonly step: number;
  /** Optimizer steps at which the run ends. */
  readonly totalSteps: number;
  /** Clips in the dataset. */
  readonly clips: number;
  /** Trainable parameters. */
  readonly parameters: number;
  /** Name of the GPU, its WebGPU engine and why that one was taken. */
  readonly device: string;
  /** Absolute path of the folder that the run writes. */
  readonly outputDir: string;
  /** What the first clip is trained to follow from: something to try the result with. */
  readonly example: ExampleRequest;
}

/** A prompt of the dataset. */
export interface ExampleRequest {
  /** Caption with its `id_token`. */
  readonly prompt: string;
  /** For image to video: path of the condition image, or of the clip whose first frame it is. */
  readonly image?: string;
}

/** One more clip, condition image or prompt is encoded, or was found encoded. */
export interface CacheEvent {
  /** Tells events apart. */
  readonly type: "cache";
  /** What is encoded. */
  readonly kind: "video" | "image" | "prompt";
  /** How many are encoded so far. */
  readonly done: number;
  /** How many there are. */
  readonly total: number;
  /** How many of `done` were found and used again. */
  readonly reused: number;
}

/** What one rank used for a step. */
export interface RankUsage {
  /** Time of its own work, without waiting for other ranks. */
  readonly seconds: number;
  /** GPU memory in use, bytes. */
  readonly gpuBytes: number;
}

/** An optimizer step was made. */
export interface StepEvent {
  /** Tells events apart. */
  readonly type: "step";
  /** Optimizer steps made, this one included. */
  readonly step: number;
  /** Optimizer steps at which the run ends. */
  readonly totalSteps: number;
  /** Mean loss over the micro-steps, ranks and clips of the step. */
  readonly loss: number;
  /** Global L2 norm of the gradients before clipping. */
  readonly gradNorm: number;
  /** Learning rate the step was made with. */
  readonly learningRate: number;
  /** Seconds that a step took, in the mean since the last event of this type. */
  readonly secondsPerStep: number;
  /** Floating-point operations of the first rank's GPU, those of recomputed activations included. */
  readonly flops: number;
  /** Bytes that its launches bind, each once per launch: a lower bound of what they read and write. */
  readonly trafficBytes: number;
  /** `flops / secondsPerStep`, waiting for other ranks included. */
  readonly flopsPerSecond: number;
  /**
   * Share of the step's time that its arithmetic would take at the measured peaks of this card, those of matrix units,
   * packed f16 and f32 each for what runs there; absent where they were not measured.
   */
  readonly peakShare?: number;
  /** Passes over the dataset so far, with fraction. */
  readonly epoch: number;
  /** GPU memory in use, bytes. */
  readonly gpuBytes: number;
  /** What each of several ranks used, by rank: a slow or a full GPU shows here. */
  readonly ranks?: readonly RankUsage[];
  /** Factor on the loss in fp16. */
  readonly lossScale?: number;
}

/** A step was not made because a value was not finite; the weights are as before. */
export interface SkippedEvent {
  /** Tells events apart. */
  readonly type: "skipped";
  /** Optimizer steps made when it happened. */
  readonly step: number;
  /** What was not finite. */
  readonly reason: "overflow" | "non-finite loss" | "non-finite gradient";
  /** Clip of the micro-step in which it happened. */
  readonly clip: string;
  /** Timestep of that clip. */
  readonly timestep: number;
  /** First tensor with such a value. */
  readonly tensor: string;
}

/** A checkpoint is on disk and was read back. */
export interface SavedEvent {
  /** Tells events apart. */
  readonly type: "saved";
  /** Optimizer steps made when it happened. */
  readonly step: number;
  /** Folder of the checkpoint. */
  readonly path: string;
  /** Bytes of all its files. */
  readonly bytes: number;
  /** Seconds that writing and reading back took. */
  readonly seconds: number;
  /** For LoRA, how far it is from the model, by layer: the norm of alpha / rank B A (Frobenius). */
  readonly updateNorms?: Readonly<Record<string, number>>;
}

/** A phase of the run has taken more GPU memory than was told of it before; the first time, any. */
export interface MemoryEvent {
  /** Tells events apart. */
  readonly type: "memory";
  /** As "training". */
  readonly phase: string;
  /** Bytes of the first rank's GPU that it had allocated at its fullest. */
  readonly gpuBytes: number;
  /** What the forecast says of that. */
  readonly plannedBytes: number;
}

/** What the run is doing or waiting for; nothing is wrong. */
export interface StatusEvent {
  /** Tells events apart. */
  readonly type: "status";
  /** One sentence. */
  readonly message: string;
}

/** Something the user should know; the run goes on. */
export interface WarningEvent {
  /** Tells events apart. */
  readonly type: "warning";
  /** What the user should know, in a sentence or two. */
  readonly message: string;
}

/** A validation video is on disk. */
export interface SampleEvent {
  /** Tells events apart. */
  readonly type: "sample";
  /** Optimizer steps made when it happened. */
  readonly step: number;
  /** What it was made from. */
  readonly prompt: string;
  /** Path of the video. */
  readonly path: string;
  /** Seconds that sampling took. */
  readonly seconds: number;
}

/** The loss on held-out clips at fixed noise and timesteps. */
export interface HeldOutEvent {
  /** Tells events apart. */
  readonly type: "heldout";
  /** Optimizer steps made when it happened. */
  readonly step: number;
  /** Mean over the bands. */
  readonly loss: number;
  /** Mean per band of timesteps, both ends included. */
  readonly bands: readonly { readonly from: number; readonly to: number; readonly loss: number }[];
}

/** What the learning-rate range test has found. */
export interface RangeTestEvent {
  /** Tells events apart. */
  readonly type: "range_test";
  /** Optimizer steps made when it happened. */
  readonly step: number;
  /** Learning rate with the lowest loss behind it, and a tenth of that; nothing where no rate has lowered the loss. */
  readonly result?: { readonly lowest: number; readonly suggested: number };
}

/** Steps were watched as `profile` asks. */
export interface ProfileEvent {
  /** Tells events apart. */
  readonly type: "profile";
  /** Optimizer steps made when it happened. */
  readonly step: number;
  /** What an average step consists of. */
  readonly figures: ProfileFigures;
  /** What bounds it and what would help, in sentences. */
  readonly words: readonly string[];
  /** Path of the trace. */
  readonly trace: string;
}

/** The run is over and its last checkpoint saved. */
export interface FinishedEvent {
  /** Tells events apart. */
  readonly type: "finished";
  /** Optimizer steps made when it happened. */
  readonly step: number;
  /** Seconds since the run began. */
  readonly seconds: number;
  /** Last checkpoint. */
  readonly path: string;
  /** True when a signal ended the run before its last step. */
  readonly interrupted: boolean;
  /** Step with the lowest held-out loss, where it was measured. */
  readonly bestStep?: number;
}

/** Everything `train()` tells. */
export type TrainEvent =
  | DownloadEvent
  | StartedEvent
  | CacheEvent
  | TuneEvent
  | StepEvent
  | SkippedEvent
  | SavedEvent
  | MemoryEvent
  | StatusEvent
  | WarningEvent
  | SampleEvent
  | HeldOutEvent
  | RangeTestEvent
  | ProfileEvent
  | FinishedEvent;
