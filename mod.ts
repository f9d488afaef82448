/**
 * cogtune fine-tunes CogVideoX video models on WebGPU: every tensor operation is a WGSL kernel on Deno's own GPU engine.
 *
 * Run as a program it is the command line (`deno run -A mod.ts --help`); imported it is this library.
 *
 * @example What a run needs
 * ```ts
 * import { forecast, parseConfig } from "@cogtune/cogtune";
 *
 * const { peakBytes, peakPhase } = forecast(parseConfig("preset: 5b-lora"));
 * if (peakPhase !== "training" || peakBytes > 24 * 2 ** 30) throw new Error("5b-lora needs a card of 24 GiB");
 * ```
 *
 * @example Train and watch
 * ```ts
 * import { parseConfig, train } from "@cogtune/cogtune";
 *
 * const config = parseConfig("model_path: examples/tiny-2b\nmodel_name: cogvideox-t2v\ndata_root: examples/clips", {
 *   overrides: { train_resolution: "9x32x48", rank: 4, train_steps: 1, output_dir: Deno.makeTempDirSync() },
 * });
 * for await (const event of train(config)) {
 *   if (event.type === "step" && !(event.loss > 0)) throw new Error("a loss is positive");
 * }
 * ```
 *
 * @module
 */
export { UserError, UserErrors } from "./lib/errors.ts";
export {
  loadConfig,
  parseConfig,
  type ParseOptions,
  printConfig,
  resolveConfig,
  type ResolvedConfig,
  type TrainConfig,
} from "./lib/config/config.ts";
export type {
  CacheEvent,
  DownloadEvent,
  FinishedEvent,
  HeldOutEvent,
  SampleEvent,
  SavedEvent,
  SkippedEvent,
  StartedEvent,
  StatusEvent,
  StepEvent,
  TrainEvent,
  WarningEvent,
} from "./lib/train/report/events.ts";
export { train, type TrainOptions } from "./lib/train/trainer.ts";
export { trainAnywhere, trainOnGpus } from "./lib/train/launch/launch.ts";
export { type Forecast, forecast, type MemoryPart, type PhaseForecast } from "./lib/forecast/forecast.ts";
export { type SampleOptions, sampleVideos, type SamplingEvent } from "./lib/sample/sample.ts";
export { defaultSettings, type SampleRequest, type SampleSettings } from "./lib/sample/settings.ts";
export { type ModelFolder, openModelFolder } from "./lib/models/folder/model_folder.ts";
export { readLora } from "./lib/models/lora/read.ts";
export { type Device, openDevice } from "./lib/gpu/device.ts";
export { Session } from "./lib/gpu/session.ts";

if (import.meta.main) {
  const { main } = await import("./lib/cli/main.ts");
  await main(Deno.args);
}
