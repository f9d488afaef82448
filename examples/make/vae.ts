/** The example model's autoencoder, trained on drawn clips and written in the layout of diffusers. */
import { join } from "node:path";
import { RandomStream } from "../../lib/data/random/random.ts";
import { normalise } from "../../lib/data/video/normalise.ts";
import { openDevice } from "../../lib/gpu/device.ts";
import { Session } from "../../lib/gpu/session.ts";
import { writeFileAtomic } from "../../lib/io/atomic.ts";
import { writeSafetensors } from "../../lib/io/safetensors/writer.ts";
import { parseVaeConfig } from "../../lib/models/vae/config.ts";
import { openVae } from "../../lib/models/vae/vae.ts";
import { checkpointTensors, initialParameters } from "./vae_parameters.ts";
import type { Grid } from "./vae_rows.ts";
import { trainAutoencoder, type Training } from "./vae_training.ts";
import {
  COLOURS,
  type Direction,
  DIRECTIONS,
  drawScene,
  FRAMES,
  render,
  type Rgb,
  type Scene,
  type Shape,
  SHAPES,
  SIZE,
} from "./world.ts";

const CONFIG = {
  _class_name: "AutoencoderKLCogVideoX",
  act_fn: "silu",
  block_out_channels: [16, 32, 32, 32],
  down_block_types: Array(4).fill("CogVideoXDownBlock3D"),
  force_upcast: true,
  in_channels: 3,
  invert_scale_latents: false,
  latent_channels: 16,
  layers_per_block: 1,
  norm_eps: 1e-6,
  norm_num_groups: 1,
  out_channels: 3,
  sample_height: 480,
  sample_width: 720,
  temporal_compression_ratio: 4,
  up_block_types: Array(4).fill("CogVideoXUpBlock3D"),
  use_post_quant_conv: false,
  use_quant_conv: false,
};

/** Crops of a quarter of the picture, which cost a quarter: 32 minutes on two CPU cores. */
const TRAINING: Training = { grid: [FRAMES, 32, 32], steps: 1500, rate: 4e-4 };

/** Clips whose latents and reconstructions are measured, none of which was trained on. */
const MEASURED = 40;

/** A scene with any shape, and a colour that is named or any. */
function anyScene(random: RandomStream): Scene {
  const pick = <T>(list: readonly T[]) => list[random.integer(list.length)]!;
  const byte = () => random.integer(256);
  const colour: Rgb = random.uniform() < 0.6 ? pick(Object.values(COLOURS)) : [byte(), byte(), byte()];
  return drawScene(
    random,
    colour,
    pick(Object.keys(SHAPES) as Shape[]),
    pick(Object.keys(DIRECTIONS) as Direction[]),
  );
}

/** A crop around the shape, pixels in [-1, 1] as rows of four channels. */
function drawCrop(index: number, [frames, height, width]: Grid): Float32Array<ArrayBuffer> {
  const random = new RandomStream({ seed: 1, purpose: "augmentation", step: 0, sample: index });
  const scene = anyScene(random);
  const planes = normalise(render(scene));
  const start = (centre: number, length: number) => {
    const wanted = centre - length / 2 + (random.uniform() - 0.5) * length;
    return Math.round(Math.min(SIZE - length, Math.max(0, wanted)));
  };
  const [left, top] = [start(scene.centre[0], width), start(scene.centre[1], height)];
  const rows = new Float32Array(frames * height * width * 4);
  for (let t = 0; t < frames; t++) {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let c = 0; c < 3; c++) {
          rows[((t * height + y) * width + x) * 4 + c] = planes[((c * FRAMES + t) * SIZE + top + y) * SIZE + left + x]!;
        }
      }
    }
  }
  return rows;
}

/** Signal-to-noise ratio in decibels of a mean squared error of values in [-1, 1]. */
const decibels = (error: number) => 10 * Math.log10(4 / error);

/** Root mean square of the latents, and the error of reconstructions, by the library's own encoder and decoder. */
async function measure(session: Session, model: string): Promise<{ latents: number; error: number }> {
  using vae = openVae(session, model);
  let [latents, error] = [0, 0];
  for (let i = 0; i < MEASURED; i++) {
    const random = new RandomStream({ seed: 2, purpose: "augmentation", step: 0, sample: i });
    const video = { data: normalise(render(anyScene(random))), shape: [3, FRAMES, SIZE, SIZE] as const };
    const { mean } = await vae.encode(video);
    const { data } = await vae.decode(mean);
    const squares = (values: Float32Array, of: (value: number, i: number) => number) =>
      values.reduce((sum, value, i) => sum + of(value, i) ** 2, 0) / values.length / MEASURED;
    latents += squares(mean.data, (value) => value);
    error += squares(data, (value, k) => Math.min(1, Math.max(-1, value)) - video.data[k]!);
  }
  return { latents: Math.sqrt(latents), error };
}

/** Trains and writes `vae/` of a model folder; `print` gets a line now and then. */
export async function makeVae(model: string, print: (line: string) => void): Promise<void> {
  const config = parseVaeConfig(CONFIG, "config.json");
  using device = await openDevice();
  using session = new Session(device);
  const parameters = initialParameters(session, config, 1);
  const folder = join(model, "vae");
  const writeConfig = (scaling_factor: number) =>
    writeFileAtomic(join(folder, "config.json"), `${JSON.stringify({ ...CONFIG, scaling_factor }, null, 2)}\n`);
  let mean = 0;
  for await (const { step, error, latents } of trainAutoencoder(session, config, parameters, TRAINING, drawCrop)) {
    mean += error;
    if (step % 50 > 0) continue;
    const quality = `${decibels(mean / 50).toFixed(2)} dB, latents ${latents.toFixed(2)}`;
    print(`autoencoder, step ${step} of ${TRAINING.steps}: ${quality}`);
    mean = 0;
  }
  const tensors = await checkpointTensors(session, config, parameters);
  await Deno.mkdir(folder, { recursive: true });
  await writeSafetensors(join(folder, "diffusion_pytorch_model.safetensors"), tensors, { metadata: { format: "pt" } });
  await writeConfig(1);
  const { latents, error } = await measure(session, model);
  await writeConfig(Number((1 / latents).toFixed(4)));
  print(`autoencoder: ${decibels(error).toFixed(1)} dB on ${MEASURED} clips that it was not trained on`);
}
