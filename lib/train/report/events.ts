/** What happens in a training run, as `train()` tells it: the one source of progress lines, metric files and dashboards. */

import type { DownloadEvent } from "../../models/folder/hub.ts";
import type { TuneEvent } from "../../tune/tune.ts";

export type { DownloadEvent } from "../../models/folder/hub.ts";
export type { TuneEvent } from "../../tune/tune.ts";

/** The run is planned and about to load weights. */
export interface StartedEvent {
  readonly type: "started";
  /** Optimizer step the run starts after: 0, or the step of the checkpoint it continues. */
  readonly step: number;
  /** Optimizer steps at which the run ends. */
  readonly totalSteps: number;
  /** Clips in the dataset. */
  readonly clips: number;
  /** Trainable parameters. */
  readonly parameters: number;
  /** Name of the GPU. */
  readonly device: string;
  readonly outputDir: string;
}

/** One more clip, condition image or prompt is encoded, or was found encoded. */
export interface CacheEvent {
  readonly type: "cache";
  readonly kind: "video" | "image" | "prompt";
  readonly done: number;
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
  readonly type: "step";
  /** Optimizer steps made, this one included. */
  readonly step: number;
  readonly totalSteps: number;
  /** Mean loss over the micro-steps, ranks and clips of the step. */
  readonly loss: number;
  /** Global L2 norm of the gradients before clipping. */
  readonly gradNorm: number;
  /** Learning rate the step was made with. */
  readonly learningRate: number;
  readonly secondsPerStep: number;
  /** Floating-point operations of the first rank's GPU, those of recomputed activations included. */
  readonly flops: number;
  /** Bytes that its launches bind, each once per launch: a lower bound of what they read and write. */
  readonly trafficBytes: number;
  /** `flops / secondsPerStep`, waiting for other ranks included. */
  readonly flopsPerSecond: number;
  /** Share of that in the peak of the GPU's f32 units; absent for a GPU whose peak is not known. Matrix units may exceed 1. */
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
  readonly type: "skipped";
  readonly step: number;
  readonly reason: "overflow" | "non-finite loss" | "non-finite gradient";
  /** Clip of the micro-step in which it happened. */
  readonly clip: string;
  readonly timestep: number;
  /** First tensor with such a value. */
  readonly tensor: string;
}

/** A checkpoint is on disk and was read back. */
export interface SavedEvent {
  readonly type: "saved";
  readonly step: number;
  readonly path: string;
  readonly bytes: number;
  readonly seconds: number;
}

/** What the run is doing or waiting for; nothing is wrong. */
export interface StatusEvent {
  readonly type: "status";
  readonly message: string;
}

/** Something the user should know; the run goes on. */
export interface WarningEvent {
  readonly type: "warning";
  readonly message: string;
}

/** A validation video is on disk. */
export interface SampleEvent {
  readonly type: "sample";
  readonly step: number;
  readonly prompt: string;
  readonly path: string;
  readonly seconds: number;
}

/** The loss on held-out clips at fixed noise and timesteps. */
export interface HeldOutEvent {
  readonly type: "heldout";
  readonly step: number;
  /** Mean over the bands. */
  readonly loss: number;
  /** Mean per band of timesteps, both ends included. */
  readonly bands: readonly { readonly from: number; readonly to: number; readonly loss: number }[];
}

/** What the learning-rate range test has found. */
export interface RangeTestEvent {
  readonly type: "range_test";
  readonly step: number;
  /** Learning rate with the lowest loss behind it, and a tenth of that; nothing where no rate has lowered the loss. */
  readonly result?: { readonly lowest: number; readonly suggested: number };
}

/** The run is over and its last checkpoint saved. */
export interface FinishedEvent {
  readonly type: "finished";
  readonly step: number;
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
  | StatusEvent
  | WarningEvent
  | SampleEvent
  | HeldOutEvent
  | RangeTestEvent
  | FinishedEvent;
