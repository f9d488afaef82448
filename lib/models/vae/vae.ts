/** The video autoencoder of CogVideoX: videos to latent distributions, latents to videos. */
import { join } from "node:path";
import type { Session } from "../../gpu/session.ts";
import type { StorageType } from "../../io/safetensors/half.ts";
import { readJsonObject } from "../../io/json_file.ts";
import type { TensorSource } from "../../io/safetensors/safetensors.ts";
import { openShards } from "../../io/safetensors/shards.ts";
import { BINDING_BYTES } from "../../ops/video/frames.ts";
import { parseVaeConfig, spatialCompression, type VaeConfig, vaeParameterShapes } from "./config.ts";
import { VaeHalf } from "./half.ts";
import { defaultTiling, type Tiling } from "./tiling.ts";
import { checkVolume, emptyVolume, type Volume } from "./volume.ts";
import { checkTensors } from "../tensors/weights.ts";

const FOLDER_HINT = "give the path of a CogVideoX model folder in the diffusers layout";

/** Choices of {@linkcode openVae}. */
export interface VaeOptions {
  /** Storage of convolution weights and activations; sums are always f32. */
  readonly dtype?: StorageType;
  /** Tile sizes, or false for none; by default those of the config. Larger tiles need more memory. */
  readonly tiling?: Tiling | false;
  /** Largest range one launch binds in bytes; smaller values cut the work into more launches. */
  readonly bindingBytes?: number;
}

/** A normal distribution of latents, both [latent channels, frames, h, w]. */
export interface Posterior {
  readonly mean: Volume;
  /** Logarithm of the variance, clamped to [-30, 20]. */
  readonly logvar: Volume;
}

/** Splits the encoder's moments [2 * channels, frames, h, w] into mean and clamped log-variance. */
export function posteriorOf({ data, shape: [channels, ...rest] }: Volume): Posterior {
  const half = data.length / 2;
  const shape = [channels / 2, ...rest] as const;
  const logvar = data.slice(half).map((value) => Math.min(20, Math.max(-30, value)));
  return { mean: { data: data.slice(0, half), shape }, logvar: { data: logvar, shape } };
}

/** mean + exp(logvar / 2) * noise, with standard normal noise of the same length. */
export function samplePosterior({ mean, logvar }: Posterior, noise: ArrayLike<number>): Volume {
  const sample = emptyVolume(mean.shape);
  for (let i = 0; i < sample.data.length; i++) {
    sample.data[i] = mean.data[i]! + Math.exp(0.5 * logvar.data[i]!) * noise[i]!;
  }
  return sample;
}

/**
 * An opened autoencoder; each half's weights are uploaded at its first use. Dispose it to free them and close the file.
 */
export class Vae implements Disposable {
  readonly #encoder: VaeHalf;
  readonly #decoder: VaeHalf;
  readonly #source: TensorSource;
  readonly #tiling: Tiling | false;

  /** Use {@linkcode openVae}. */
  constructor(session: Session, readonly config: VaeConfig, source: TensorSource, options: VaeOptions) {
    const { dtype = "f32", tiling = defaultTiling(config), bindingBytes = BINDING_BYTES } = options;
    const { limits, device: { target } } = session;
    const record = { target, limits, bindingBytes };
    this.#encoder = new VaeHalf(session, config, "encoder", dtype, record);
    this.#decoder = new VaeHalf(session, config, "decoder", dtype, record);
    this.#source = source;
    this.#tiling = tiling;
  }

  /**
   * The latent distribution of a video [3, frames, height, width] with values in [-1, 1]; one call at a time.
   *
   * @throws {RangeError} when height or width is no multiple of 8, or tiles would leave a rest below 8 pixels.
   */
  async encode(video: Volume): Promise<Posterior> {
    const { in_channels } = this.config;
    checkVolume("The video", video);
    const unit = spatialCompression(this.config);
    const [channels, , height, width] = video.shape;
    if (channels !== in_channels || height % unit !== 0 || width % unit !== 0) {
      throw new RangeError(
        `Cannot encode a video of shape [${video.shape}]: expected [${in_channels}, frames, height, width] with height ` +
          `and width multiples of ${unit}`,
      );
    }
    return posteriorOf(await this.#encoder.run(video, this.#source, this.#tiling));
  }

  /**
   * The video [3, frames, height, width] of latents that are not scaled (divide by the scaling factor before); one call
   * at a time.
   */
  async decode(latents: Volume): Promise<Volume> {
    const { latent_channels } = this.config;
    checkVolume("The latent", latents);
    if (latents.shape[0] !== latent_channels) {
      throw new RangeError(
        `Cannot decode a latent of shape [${latents.shape}]: expected [${latent_channels}, frames, height, width]`,
      );
    }
    return await this.#decoder.run(latents, this.#source, this.#tiling);
  }

  /** Frees the GPU memory of both halves; a later call uploads the weights again. */
  unload(): void {
    this.#encoder[Symbol.dispose]();
    this.#decoder[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.unload();
    this.#source[Symbol.dispose]();
  }
}

/** Config and weights of an autoencoder, checked against each other. Dispose it to close its files. */
export interface VaeFiles extends Disposable {
  readonly config: VaeConfig;
  readonly source: TensorSource;
}

/**
 * Opens `vae/config.json` and `vae/diffusion_pytorch_model.safetensors` of a model folder; reads no weight.
 *
 * @throws {UserError} naming every value of the config and every tensor that is missing, unknown or of another shape.
 */
export function openVaeWeights(modelFolder: string): VaeFiles {
  const folder = join(modelFolder, "vae");
  const configFile = join(folder, "config.json");
  const config = parseVaeConfig(readJsonObject(configFile, FOLDER_HINT), configFile);
  const source = openShards(folder, "diffusion_pytorch_model");
  try {
    checkTensors(source, vaeParameterShapes(config), folder);
  } catch (error) {
    source[Symbol.dispose]();
    throw error;
  }
  return { config, source, [Symbol.dispose]: () => source[Symbol.dispose]() };
}

/**
 * Opens the autoencoder of a model folder in the diffusers layout.
 *
 * @throws {UserError} as {@linkcode openVaeWeights} does.
 */
export function openVae(session: Session, modelFolder: string, options: VaeOptions = {}): Vae {
  const { config, source } = openVaeWeights(modelFolder);
  return new Vae(session, config, source, options);
}
