/** Sampling in one call, on a device of its own. */
import { openDevice } from "../gpu/device.ts";
import type { Engine } from "../gpu/dialect.ts";
import { Session } from "../gpu/session.ts";
import { openModelFolder } from "../models/folder/model_folder.ts";
import { type MatmulPrecision, roundsWhenSampling } from "./load_transformer.ts";
import { sampleOn, type SampleOptions, type SamplingEvent } from "./sample.ts";
import { defaultSettings, type SampleRequest, type SampleSettings } from "./settings.ts";

/** Options of {@linkcode sampleVideos}. */
export interface SampleVideosOptions extends Omit<SampleOptions, "settings"> {
  /** What differs from the defaults of the model's pipeline. */
  readonly settings?: Partial<SampleSettings> | undefined;
  /** WebGPU implementation; by default Dawn where it is installed and brings matrix units. */
  readonly engine?: Engine | undefined;
  /**
   * Default `mixed`: where matrices are stored in two bytes, products round their operands to f16 and run on matrix
   * units if the engine shows some. `exact` computes in float32.
   */
  readonly matmulPrecision?: MatmulPrecision | undefined;
}

/**
 * Samples a video per request with the model in `modelPath`, a diffusers folder. Equal requests and settings give equal
 * videos on the same machine, whatever else is sampled beside them.
 *
 * @throws {UserErrors} listing everything the model cannot do, before anything is loaded; the reason of `signal` when
 * aborted.
 * @example
 * ```ts
 * import { sampleVideos } from "@cogtune/cogtune";
 *
 * const settings = { frames: 9, height: 32, width: 48, steps: 1 };
 * for await (const event of sampleVideos("examples/tiny-2b", [{ prompt: "a ball", seed: 1 }], { settings })) {
 *   if (event.type !== "video") continue;
 *   const { data, frames } = event.video;
 *   if (frames !== 9 || data.length !== 9 * 32 * 48 * 3) throw new Error("a video holds RGB bytes, frame after frame");
 * }
 * ```
 */
export async function* sampleVideos(
  modelPath: string,
  requests: readonly SampleRequest[],
  { settings, engine, matmulPrecision: precision = "mixed", ...options }: SampleVideosOptions = {},
): AsyncGenerator<SamplingEvent> {
  const model = openModelFolder(modelPath);
  const mixed = roundsWhenSampling(model, { dtype: settings?.dtype, precision });
  using device = await openDevice({ mixed, ...(engine === undefined ? {} : { engine }) });
  using session = new Session(device);
  yield* sampleOn(session, model, requests, {
    ...options,
    settings: { ...defaultSettings(model.transformer), ...settings },
  });
}
