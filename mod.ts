/**
 * cogtune fine-tunes CogVideoX video models on WebGPU: every tensor operation is a WGSL kernel on Deno's own GPU engine.
 *
 * Run as a program it is the command line (`deno run -A mod.ts --help`); imported it is this library.
 *
 * @example Train and watch
 * ```ts no-eval
 * import { loadConfig, train } from "@cogtune/cogtune";
 *
 * const { config } = await loadConfig({ preset: "5b-lora", overrides: { data_root: "clips", model_path: "CogVideoX-5b" } });
 * for await (const event of train(config)) {
 *   if (event.type === "step") console.log(event.step, event.loss);
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
} from "./lib/train/config.ts";
export type {
  CacheEvent,
  DownloadEvent,
  FinishedEvent,
  HeldOutEvent,
  SampleEvent,
  SavedEvent,
  SkippedEvent,
  StartedEvent,
  StepEvent,
  TrainEvent,
  WarningEvent,
} from "./lib/train/events.ts";
export { train, type TrainOptions } from "./lib/train/trainer.ts";
export { trainAnywhere, trainOnGpus } from "./lib/train/launch.ts";
export { type Forecast, forecast, type MemoryPart, type PhaseForecast } from "./lib/train/forecast.ts";
export { type SampleOptions, sampleVideos, type SamplingEvent } from "./lib/sample/sample.ts";
export { defaultSettings, type SampleRequest, type SampleSettings } from "./lib/sample/settings.ts";
export { type ModelFolder, openModelFolder } from "./lib/models/model_folder.ts";
export { readLora } from "./lib/models/lora_read.ts";
export { type Device, openDevice } from "./lib/gpu/device.ts";
export { Session } from "./lib/gpu/session.ts";

if (import.meta.main) {
  const { main } = await import("./lib/cli/main.ts");
  await main(Deno.args);
}
