/** Channels that are no multiples of four: padded with zeros on the device, normalised over the true ones. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Session } from "../../../lib/gpu/session.ts";
import type { TensorToWrite } from "../../../lib/io/safetensors/writer.ts";
import { writeSafetensors } from "../../../lib/io/safetensors/writer.ts";
import { RELEASED_VAE, type VaeConfig, vaeParameterShapes } from "../../../lib/models/vae/config.ts";
import { openVae, openVaeWeights } from "../../../lib/models/vae/vae.ts";
import type { Volume } from "../../../lib/models/vae/volume.ts";
import { withFolder } from "../../io/faulty_operations.ts";
import { numbers, relativeL2, testDevice } from "../../kernels/run.ts";
import { casesOf, pipelineOf, type ReferenceCase, referencePath } from "../../reference.ts";
import { Golden } from "../golden.ts";
import { goldenVolume } from "./case.ts";
import { plainDecode, plainEncode } from "./plain.ts";

/** f32 against float64, as for the golden files. */
const TOLERANCE = 1e-5;

/** Widths with every remainder, groups of one, three and five channels, latents with a remainder. */
const CONFIGS: readonly Partial<VaeConfig>[] = [
  { block_out_channels: [6, 9], norm_num_groups: 3, latent_channels: 6 },
  { block_out_channels: [5, 10], norm_num_groups: 5, latent_channels: 3 },
  { block_out_channels: [7, 14], norm_num_groups: 7, latent_channels: 5 },
  { block_out_channels: [10, 15], norm_num_groups: 5, latent_channels: 16, in_channels: 1, out_channels: 2 },
];

async function writeVae(model: string, config: VaeConfig): Promise<void> {
  const folder = join(model, "vae");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  const tensors = [...vaeParameterShapes(config)].map(([name, shape], seed): TensorToWrite => {
    const size = shape.reduce((a, b) => a * b, 1);
    const inputs = shape.length > 1 ? size / shape[0]! : 4;
    const data = numbers(size, seed).map((value) =>
      3 * value / Math.sqrt(inputs) + (/norm.*weight$/.test(name) ? 1 : 0)
    );
    return { name, dtype: "F32", shape, data };
  });
  await writeSafetensors(join(folder, "diffusion_pytorch_model.safetensors"), tensors);
}

function volume(shape: Volume["shape"], seed: number): Volume {
  return { data: numbers(shape.reduce((a, b) => a * b, 1), seed), shape };
}

function close(what: string, actual: Volume, expected: Volume): void {
  assert.deepEqual(actual.shape, expected.shape, what);
  const error = relativeL2(actual.data, expected.data);
  assert.ok(error <= TOLERANCE, `${what}: ${error}`);
}

/** The smallest untiled case that is one chunk of frames. */
function smallCase(): ReferenceCase {
  const sized = casesOf("vae", "decoded").filter(({ config }) => config.tiling === false).map((stored) => {
    using golden = new Golden(referencePath(stored.file));
    const [, , frames, height, width] = golden.shape("video") as [number, number, number, number, number];
    return { stored, frames, pixels: frames * height * width };
  });
  const [smallest] = sized.filter(({ frames }) => frames <= 9).sort((a, b) => a.pixels - b.pixels);
  return smallest!.stored;
}

Deno.test("the plain autoencoder gives what diffusers gives", () => {
  const stored = smallCase();
  using golden = new Golden(referencePath(stored.file));
  using vae = openVaeWeights(pipelineOf(stored));
  const { data } = plainEncode(vae.config, vae.source, goldenVolume(golden, "video"));
  const mean = goldenVolume(golden, "mean");
  close("mean", { data: data.slice(0, data.length / 2), shape: mean.shape }, mean);
  const latent = goldenVolume(golden, "sample");
  close("video", plainDecode(vae.config, vae.source, latent), goldenVolume(golden, "decoded"));
});

for (const changes of CONFIGS) {
  const config: VaeConfig = { ...RELEASED_VAE, layers_per_block: 1, ...changes };
  const { block_out_channels, norm_num_groups, latent_channels, in_channels } = config;
  Deno.test(`channels [${block_out_channels}] in ${norm_num_groups} groups, ${latent_channels} of latents`, () =>
    withFolder(async (model) => {
      await writeVae(model, config);
      const { device } = await testDevice();
      using session = new Session(device);
      using weights = openVaeWeights(model);
      using vae = openVae(session, model, { tiling: false });
      const video = volume([in_channels, 5, 6, 8], 1);
      const { mean, logvar } = await vae.encode(video);
      const moments = plainEncode(config, weights.source, video);
      const half = moments.data.length / 2;
      close("mean", mean, { data: moments.data.slice(0, half), shape: mean.shape });
      const clamped = moments.data.slice(half).map((value) => Math.min(20, Math.max(-30, value)));
      close("log-variance", logvar, { data: clamped, shape: mean.shape });
      const latent = volume([latent_channels, 3, 3, 4], 2);
      close("video", await vae.decode(latent), plainDecode(config, weights.source, latent));
    }));
}
