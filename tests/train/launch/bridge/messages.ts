/** What crosses the bridge in its test: every event, with the figures that JSON has no word for, and every kind of error. */
import { PeerError } from "../../../../lib/comm/exchange/communicator.ts";
import { UserError, UserErrors } from "../../../../lib/errors.ts";
import type { TrainConfig } from "../../../../lib/config/config.ts";
import type { TrainEvent } from "../../../../lib/train/report/events.ts";
import type { TrainOptions } from "../../../../lib/train/trainer.ts";

const work = { flops: 1e15, trafficBytes: 1e9, flopsPerSecond: 1e16, peakShare: 0.1 };
const figures = { learningRate: 2e-5, secondsPerStep: 0.1, epoch: -0, gpuBytes: 2 ** 40, ...work };

/** One event of every type, and those whose figures are not finite. */
export const EVENTS: { readonly [T in TrainEvent["type"]]: readonly Extract<TrainEvent, { type: T }>[] } = {
  download: [{ type: "download", model: "a/b", file: "c.safetensors", done: 1, total: 2 }],
  started: [
    {
      type: "started",
      step: 0,
      totalSteps: 9,
      clips: 3,
      parameters: 1e12,
      device: "a \u001b[31mGPU\n, \ud83c\udf9e",
      outputDir: "out",
      example: { prompt: "a \ud83c\udf9e", image: "a.png" },
    },
  ],
  tune: [{ type: "tune", done: 1, total: 2, problem: "gemm(m=4,n=4,k=4)" }],
  cache: [{ type: "cache", kind: "video", done: 1, total: 2, reused: 0 }],
  step: [
    { type: "step", step: 1, totalSteps: 9, loss: 0.1, gradNorm: 1 / 3, ...figures },
    {
      type: "step",
      step: 2,
      totalSteps: 9,
      loss: NaN,
      gradNorm: Infinity,
      ...figures,
      ranks: [{ seconds: -Infinity, gpuBytes: 0 }],
      lossScale: 65536,
    },
  ],
  skipped: [{ type: "skipped", step: 3, reason: "overflow", clip: "a.mp4", timestep: 999, tensor: "loss" }],
  saved: [{
    type: "saved",
    step: 3,
    path: "out/checkpoint-3",
    bytes: 2 ** 33,
    seconds: 1e-9,
    updateNorms: { "a.b": NaN },
  }],
  memory: [{ type: "memory", phase: "training", gpuBytes: 2 ** 40, plannedBytes: 2 ** 40 }],
  status: [{ type: "status", message: "cache: 4 reused" }],
  warning: [{ type: "warning", message: "cogtune-report \u2028" }],
  sample: [{ type: "sample", step: 3, prompt: "", path: "a.mp4", seconds: 1 }],
  heldout: [{ type: "heldout", step: 3, loss: NaN, bands: [{ from: 0, to: 1, loss: NaN }] }],
  range_test: [{ type: "range_test", step: 9, result: { lowest: 1e-3, suggested: 1e-4 } }, {
    type: "range_test",
    step: 1,
  }],
  profile: [{
    type: "profile",
    step: 3,
    figures: {
      steps: 2,
      milliseconds: 10,
      families: [{ family: "gemm", milliseconds: 9, launches: 3, flopsPerSecond: 1e12, bytesPerSecond: 1e9 }],
      idle: { launches: 1, batch: 0, upload: 0, encode: 0, wait: 0, exchange: 0, other: 0 },
      submits: 1,
      waits: 1,
      uploadedBytes: 4096,
    },
    words: ["What bounds the step: arithmetic."],
    trace: "out/profile.trace.json",
  }],
  finished: [{ type: "finished", step: 3, seconds: 1, path: "out/checkpoint-3", interrupted: true }],
};

/** A value that no type of event has, but one could get. */
const arrays = { type: "warning", message: "", bits: new Float32Array([NaN, -0, 1.5]), absent: undefined } as const;

/** Everything that is sent before an error. */
export const SENT: readonly TrainEvent[] = [...Object.values(EVENTS).flat(), arrays];

const rangeError = new RangeError("Cannot", { cause: new UserErrors("inner", ["a"]) });

/** What may be thrown. */
export const THROWN: readonly unknown[] = [
  new UserError("found, expected", "do this"),
  new UserError("without a hint"),
  new UserErrors("Config", ["one", "two"], "mend both"),
  new UserErrors("One", ["only"]),
  new Error("plain"),
  new Error("with a cause", { cause: new TypeError("the cause", { cause: NaN }) }),
  rangeError,
  new AggregateError([new UserError("a"), "b", rangeError], "several"),
  new Deno.errors.NotCapable("Requires read access"),
  new DOMException("too large", "QuotaExceededError"),
  Object.assign(new (class StorageError extends UserError {})("a class of its own"), { status: 404, retry: undefined }),
  "a text",
  undefined,
];

/** Seeds beyond those of {@linkcode THROWN}: what else may happen to a run. */
export const PEER_FAILED = THROWN.length, STOPPED = PEER_FAILED + 1, ENDS = STOPPED + 1;

/** A run that yields {@linkcode SENT}, and then ends as {@linkcode fakeEnd} says. */
export async function* fakeTrain(config: TrainConfig, options: TrainOptions = {}): AsyncGenerator<TrainEvent> {
  yield* SENT;
  await fakeEnd(config, options);
}

/** Throws the value whose number is the seed, or does what the seed says. */
export async function fakeEnd({ seed }: TrainConfig, { signal }: TrainOptions): Promise<void> {
  if (seed < THROWN.length) throw THROWN[seed];
  if (seed === PEER_FAILED) throw new PeerError("rank 1: barrier stopped: rank 0 is gone", 0);
  if (seed !== STOPPED) return;
  while (!signal!.aborted) await new Promise((resolve) => setTimeout(resolve, 10));
  signal!.throwIfAborted();
}
