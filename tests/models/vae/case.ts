/** Runs a stored autoencoder case, for every sample of its batch, and measures how far each result is from the stored one. */
import assert from "node:assert/strict";
import { Session } from "../../../lib/gpu/session.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { openVae, samplePosterior, type VaeOptions } from "../../../lib/models/vae/vae.ts";
import type { Volume } from "../../../lib/models/vae/volume.ts";
import { relativeL2, testDevice } from "../../kernels/run.ts";
import { casesOf, pipelineOf, type ReferenceCase, referencePath } from "../../reference.ts";
import { Golden } from "../golden.ts";
import type { Distance } from "../transformer/case.ts";

/** Sample `item` of a golden tensor [B, C, T, H, W]. */
export function goldenVolume(golden: Golden, name: string, item = 0): Volume {
  const shape = golden.shape(name).slice(1) as [number, number, number, number];
  const size = shape.reduce((a, b) => a * b, 1);
  return { data: golden.f32(name).slice(item * size, (item + 1) * size), shape };
}

/** A case of several chunks of frames without tiling, and the bytes of one frame at the level with the most values, in f32. */
export function plainVideo(): { stored: ReferenceCase; frameBytes: number } {
  const candidates = casesOf("vae", "video").filter(({ config }) => config.tiling === false).map((stored) => {
    using golden = new Golden(referencePath(stored.file));
    const [, , frames, height, width] = golden.shape("video") as [number, number, number, number, number];
    const { block_out_channels: [first, second] } = openModelFolder(pipelineOf(stored)).vae;
    return { stored, frames, frameBytes: 4 * height * width * Math.max(first!, second!) };
  });
  return candidates.find(({ frames }) => frames > 9) ?? candidates[0]!;
}

/** The tiling a case was made with. */
function tilingOf({ config }: Golden): NonNullable<VaeOptions["tiling"]> {
  if (config.tile_sample_min_height === undefined) return false;
  return {
    sampleHeight: config.tile_sample_min_height as number,
    sampleWidth: config.tile_sample_min_width as number,
    overlapHeight: config.tile_overlap_factor_height as number,
    overlapWidth: config.tile_overlap_factor_width as number,
  };
}

/** Encodes, samples and decodes what a case holds, with the weights and the tiling it was made with. */
export async function runVae(stored: ReferenceCase, options: Omit<VaeOptions, "tiling"> = {}): Promise<Distance[]> {
  const { device } = await testDevice();
  using session = new Session(device);
  using golden = new Golden(referencePath(stored.file));
  using vae = openVae(session, pipelineOf(stored), { ...options, tiling: tilingOf(golden) });
  const distances: Distance[] = [];
  const input = golden.has("video") ? "video" : "image";
  for (let item = 0; item < golden.shape(input)[0]!; item++) {
    const compare = (what: string, actual: Volume) => {
      const stored = goldenVolume(golden, what, item);
      assert.deepEqual(actual.shape, stored.shape, what);
      distances.push({ what, error: relativeL2(actual.data, stored.data) });
    };
    const posterior = await vae.encode(goldenVolume(golden, input, item));
    compare("mean", posterior.mean);
    compare("logvar", posterior.logvar);
    compare("sample", samplePosterior(posterior, goldenVolume(golden, "noise", item).data));
    if (golden.has("decoded")) compare("decoded", await vae.decode(goldenVolume(golden, "sample", item)));
  }
  return distances;
}
