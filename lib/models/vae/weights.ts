/**
 * Weights of the video autoencoder: their tensors on the GPU, and how checkpoint tensors are repacked for the kernels.
 */
import type { DType } from "../../../kernels/core/kernel.ts";
import type { Session } from "../../gpu/session.ts";
import { encodeF32, type StorageType } from "../../io/safetensors/half.ts";
import type { TensorSource } from "../../io/safetensors/safetensors.ts";
import type { ConvWeights } from "../../ops/video/conv3d.ts";
import type { GroupNormWeights } from "../../ops/video/group_norm.ts";
import { Tensor } from "../../plan/tensor.ts";
import { type ConvLayer, type NormLayer, type VaeConfig, type VaeLayer, vaeLayers, type VaePart } from "./config.ts";

/** Channels as kernels want them: a multiple of four, the rest zero. */
export function paddedChannels(channels: number): number {
  return Math.ceil(channels / 4) * 4;
}

/**
 * [out, in, window...] to [window..., in, out] with both channel counts padded by zeros, for output channels `offset`
 * onwards of `outputs` in all. Exported for its test.
 */
export function packConv(
  weight: Float32Array,
  stored: readonly number[],
  into: Float32Array,
  { offset = 0, outputs = paddedChannels(stored[0]!) }: { offset?: number; outputs?: number } = {},
): void {
  const [out, channels] = stored as [number, number];
  const taps = weight.length / (out * channels);
  const inner = paddedChannels(channels);
  for (let i = 0; i < channels; i++) {
    for (let o = 0; o < out; o++) {
      const from = (o * channels + i) * taps;
      for (let tap = 0; tap < taps; tap++) into[(tap * inner + i) * outputs + offset + o] = weight[from + tap]!;
    }
  }
}

/** The tensors of one half. Declaring them needs no device and no data. */
export class VaeWeights {
  readonly #tensors = new Map<string, Tensor>();
  readonly #layers: readonly VaeLayer[];
  readonly #latentChannels: number;

  /** @param dtype storage of the convolutions; norms and biases are f32. */
  constructor(readonly config: VaeConfig, readonly part: VaePart, readonly dtype: DType) {
    this.#layers = vaeLayers(config, part);
    this.#latentChannels = config.latent_channels;
    for (const layer of this.#layers) this.#declare(layer);
  }

  #declare(layer: VaeLayer): void {
    const { name } = layer;
    if (layer.kind === "conv") return this.#declareConv(name, layer.stored);
    const channels = paddedChannels(layer.channels);
    this.#add(`${name}.weight`, [channels], "f32");
    this.#add(`${name}.bias`, [channels], "f32");
    if (layer.kind === "spatial norm") {
      // conv_y and conv_b read the same latent, so they are one convolution of twice the channels.
      this.#declareConv(`${name}.modulation`, [2 * channels, this.#latentChannels, 1, 1, 1]);
    }
  }

  #declareConv(name: string, stored: readonly number[]): void {
    const [out, channels, ...window] = stored as [number, number, ...number[]];
    const taps = window.length === 3 ? window : [1, ...window];
    this.#add(`${name}.weight`, [...taps, paddedChannels(channels), paddedChannels(out)], this.dtype);
    this.#add(`${name}.bias`, [paddedChannels(out)], "f32");
  }

  #add(name: string, shape: readonly number[], dtype: DType): void {
    this.#tensors.set(name, new Tensor(name, shape, dtype, { resident: true }));
  }

  #get(name: string): Tensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new Error(`The autoencoder has no tensor "${name}"`);
    return tensor;
  }

  /** Whether this half has a layer of this name. */
  has(name: string): boolean {
    return this.#tensors.has(`${name}.weight`);
  }

  /** A convolution by its checkpoint name, or `<norm>.modulation`. */
  conv(name: string): ConvWeights {
    return { weight: this.#get(`${name}.weight`), bias: this.#get(`${name}.bias`) };
  }

  /** The affine weights of a norm. */
  norm(name: string): GroupNormWeights {
    return { weight: this.#get(`${name}.weight`), bias: this.#get(`${name}.bias`) };
  }

  /** Channels that a norm normalises, without those that fill up to a multiple of four. */
  channels(name: string): number {
    const layer = this.#layers.find((layer) => layer.name === name);
    if (layer === undefined || layer.kind === "conv") throw new Error(`The autoencoder has no norm "${name}"`);
    return layer.channels;
  }

  /** Reads every layer from a checkpoint and uploads it. */
  async upload(session: Session, source: TensorSource): Promise<void> {
    for (const layer of this.#layers) {
      if (layer.kind === "conv") this.#uploadConv(session, source, layer);
      else this.#uploadNorm(session, source, layer);
      await session.flush();
    }
  }

  /** Frees the memory of every tensor. */
  free(session: Session): void {
    for (const tensor of this.#tensors.values()) session.free(tensor);
  }

  #write(session: Session, name: string, values: Float32Array<ArrayBuffer>): void {
    const tensor = this.#get(name);
    session.write(tensor, encodeF32(values, tensor.dtype as StorageType));
  }

  #uploadConv(session: Session, source: TensorSource, { name, stored }: ConvLayer): void {
    const weight = new Float32Array(this.#get(`${name}.weight`).size);
    packConv(source.readF32(`${name}.weight`), stored, weight);
    const bias = new Float32Array(paddedChannels(stored[0]!));
    bias.set(source.readF32(`${name}.bias`));
    this.#write(session, `${name}.weight`, weight);
    this.#write(session, `${name}.bias`, bias);
  }

  #uploadNorm(session: Session, source: TensorSource, { kind, name, channels }: NormLayer): void {
    const affine = kind === "norm" ? name : `${name}.norm_layer`;
    const padded = paddedChannels(channels);
    for (const half of ["weight", "bias"]) {
      const values = new Float32Array(padded);
      values.set(source.readF32(`${affine}.${half}`));
      this.#write(session, `${name}.${half}`, values);
    }
    if (kind === "norm") return;
    const modulation = `${name}.modulation`;
    const weight = new Float32Array(this.#get(`${modulation}.weight`).size);
    const bias = new Float32Array(2 * padded);
    ["conv_y", "conv_b"].forEach((conv, i) => {
      const stored = [channels, this.#latentChannels, 1, 1, 1];
      const place = { offset: i * padded, outputs: 2 * padded };
      packConv(source.readF32(`${name}.${conv}.conv.weight`), stored, weight, place);
      bias.set(source.readF32(`${name}.${conv}.conv.bias`), i * padded);
    });
    this.#write(session, `${modulation}.weight`, weight);
    this.#write(session, `${modulation}.bias`, bias);
  }
}
