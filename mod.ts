/**
 * cogtune fine-tunes CogVideoX video models on WebGPU: every tensor operation is a WGSL kernel on Deno's own GPU
 * engine.
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
 * See {@linkcode train}; {@linkcode sampleVideos} makes videos with what was trained.
 *
 * @module
 */
export { UserError, UserErrors } from "./lib/errors.ts";
export {
  type ConfigOrigin,
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
  ExampleRequest,
  FinishedEvent,
  HeldOutEvent,
  MemoryEvent,
  ProfileEvent,
  RangeTestEvent,
  RankUsage,
  SampleEvent,
  SavedEvent,
  SkippedEvent,
  StartedEvent,
  StatusEvent,
  StepEvent,
  TrainEvent,
  TuneEvent,
  WarningEvent,
} from "./lib/train/report/events.ts";
export type { FamilyFigures, IdleCause, ProfileFigures } from "./lib/train/profile/figures.ts";
export { train, type TrainOptions } from "./lib/train/trainer.ts";
export { trainAnywhere, trainOnGpus } from "./lib/train/launch/launch.ts";
export { forecast } from "./lib/forecast/forecast.ts";
export type { Forecast, MemoryPart, PhaseForecast } from "./lib/forecast/needs.ts";
export type { ConfigText } from "./lib/config/presets.ts";
export { sampleVideos, type SampleVideosOptions } from "./lib/sample/sample_videos.ts";
export type { MatmulPrecision } from "./lib/sample/load_transformer.ts";
export type { SampleOptions, SamplingEvent } from "./lib/sample/sample.ts";
export type { SampleRequest, SampleSettings } from "./lib/sample/settings.ts";
export type { LoraChoice } from "./lib/models/lora/stack.ts";
export type { RgbFrames } from "./lib/data/video/video.ts";
export type { StorageType } from "./lib/io/safetensors/half.ts";
export type { Engine } from "./lib/gpu/dialect.ts";
export type { LoraModule, LoraModules } from "./lib/models/lora/module.ts";
export { type LoraFormat, loraFormats } from "./lib/models/lora/keys.ts";
export type { LoraValues } from "./lib/models/lora/adapters.ts";
export type { BaseModel } from "./lib/models/lora/base.ts";
export { type LoraFile, readLora, type ReadLoraOptions } from "./lib/models/lora/read.ts";

if (import.meta.main) {
  const { main } = await import("./lib/cli/main.ts");
  await main(Deno.args);
}
