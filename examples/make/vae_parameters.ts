/** The autoencoder's trained tensors: how they start, and how a checkpoint names and stores them. */
import { RandomStream } from "../../lib/data/random/random.ts";
import type { Session } from "../../lib/gpu/session.ts";
import { encodeF32 } from "../../lib/io/safetensors/half.ts";
import type { TensorToWrite } from "../../lib/io/safetensors/writer.ts";
import { packTrainables, type Trainables } from "../../lib/models/tensors/trainables.ts";
import { type ConvLayer, layerShapes, type VaeConfig, vaeLayers } from "../../lib/models/vae/config.ts";
import { paddedChannels } from "../../lib/models/vae/weights.ts";

/** Half of a convolution's outputs are means, half logarithms of variances, which stay at this value: deviation 0.02. */
const LOG_VARIANCE = -8;

const MOMENTS = "encoder.conv_out.conv";

const layers = (config: VaeConfig) => [...vaeLayers(config, "encoder"), ...vaeLayers(config, "decoder")];

/**
 * The convolutions that train. The residual ones at full size stay zero: they would take two thirds of the time, and flat colours
 * do not need them.
 */
function trainedConvs(config: VaeConfig): ConvLayer[] {
  const idle = /(down_blocks\.0|up_blocks\.3)\.resnets\.\d\.conv[12]/;
  return layers(config).flatMap((layer) => layer.kind === "conv" && !idle.test(layer.name) ? [layer] : []);
}

/** Outputs, inputs (both padded to fours) and taps of a convolution. */
function sizes({ name, stored }: ConvLayer): { outputs: number; inner: number; taps: number } {
  const [out, channels, ...window] = stored as [number, number, ...number[]];
  return {
    outputs: name === MOMENTS ? out / 2 : paddedChannels(out),
    inner: paddedChannels(channels),
    taps: window.reduce((product, length) => product * length, 1),
  };
}

/** Declares [out, taps * in] and [out] for every trained convolution and writes their first values. */
export function initialParameters(session: Session, config: VaeConfig, seed: number): Trainables {
  const convs = trainedConvs(config);
  const shapes = new Map<string, readonly number[]>();
  for (const layer of convs) {
    const { outputs, inner, taps } = sizes(layer);
    shapes.set(`${layer.name}.weight`, [outputs, taps * inner]);
    shapes.set(`${layer.name}.bias`, [outputs]);
  }
  const trainables = packTrainables(shapes, "f32");
  convs.forEach((layer, sample) => {
    session.write(trainables.byName.get(`${layer.name}.weight`)!.master, initialWeight(layer, seed, sample));
  });
  return trainables;
}

/**
 * Residual branches start at zero and all other convolutions but the last as smoothing that keeps every channel, plus noise: from
 * the first step on, the latents hold a small copy of the picture and the decoder enlarges it. From noise alone it takes 400 steps
 * until the first colours appear.
 */
function initialWeight(layer: ConvLayer, seed: number, sample: number): Float32Array<ArrayBuffer> {
  const { name, stored } = layer;
  const { outputs, inner, taps } = sizes(layer);
  const weight = new Float32Array(outputs * taps * inner);
  if (name.includes("conv2")) return weight;
  new RandomStream({ seed, purpose: "weights", step: 0, sample }).fillNormals(weight);
  const ends = name.includes("conv1") || name === "decoder.conv_out.conv";
  const deviation = (ends ? 1 : 0.5) / Math.sqrt(taps * inner);
  for (let i = 0; i < weight.length; i++) weight[i]! *= deviation;
  if (ends) return weight;
  const smoothing = smoothingOf(name, taps);
  for (let o = 0; o < Math.min(outputs, stored[1]!); o++) {
    smoothing.forEach((value, tap) => weight[(o * taps + tap) * inner + o]! += value);
  }
  return weight;
}

/** Weights of the taps: the mean of four pixels, linear interpolation, or the middle of the newest frame. */
function smoothingOf(name: string, taps: number): number[] {
  if (name.includes("downsamplers")) return [0.25, 0.25, 0, 0.25, 0.25, 0, 0, 0, 0];
  if (name.includes("upsamplers")) return [1, 2, 1, 2, 4, 2, 1, 2, 1].map((value) => value / 16);
  return Array.from({ length: taps }, (_, tap) => tap === taps - 1 - Math.floor(taps === 27 ? 9 / 2 : 0) ? 1 : 0);
}

/** Every tensor of `diffusion_pytorch_model.safetensors`, as f16. */
export async function checkpointTensors(
  session: Session,
  config: VaeConfig,
  { byName }: Trainables,
): Promise<TensorToWrite[]> {
  const tensors: TensorToWrite[] = [];
  for (const layer of layers(config)) {
    for (const [name, shape] of layerShapes(layer, config)) {
      const values = new Float32Array(shape.reduce((product, length) => product * length, 1));
      const trained = byName.get(name);
      if (layer.kind === "conv" && trained !== undefined) {
        const master = await session.readF32(trained.master);
        if (name.endsWith(".weight")) scatterWeight(master, layer, values);
        else values.set(master.subarray(0, values.length));
        if (name === `${MOMENTS}.bias`) values.fill(LOG_VARIANCE, values.length / 2);
      } else if (isOne(name)) values.fill(1);
      tensors.push({ name, dtype: "F16", shape, data: encodeF32(values, "f16") });
    }
  }
  return tensors;
}

/** Scales of norms, and the modulation of the decoder's norms, which does not look at the latent: y = 1, b = 0. */
function isOne(name: string): boolean {
  return /(norm\w*\.weight|conv_y\.conv\.bias)$/.test(name);
}

/** [out, taps * in] as [out, in, window...]; outputs that are not trained stay zero. */
function scatterWeight(master: Float32Array, layer: ConvLayer, values: Float32Array): void {
  const { outputs, inner, taps } = sizes(layer);
  const [out, channels] = layer.stored as [number, number];
  for (let o = 0; o < Math.min(out, outputs); o++) {
    for (let i = 0; i < channels; i++) {
      for (let tap = 0; tap < taps; tap++) {
        values[(o * channels + i) * taps + tap] = master[(o * taps + tap) * inner + i]!;
      }
    }
  }
}
