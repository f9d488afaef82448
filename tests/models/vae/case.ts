/** Runs a stored autoencoder case, for every sample of its batch, and measures how far each result is from the stored one. */
import assert from "node:assert/strict";
import { Session } from "../../../lib/gpu/session.ts";
import { openVae, samplePosterior, type VaeOptions } from "../../../lib/models/vae/vae.ts";
import type { Volume } from "../../../lib/models/vae/volume.ts";
import { relativeL2, testDevice } from "../../kernels/run.ts";
import { Golden } from "../golden.ts";
import type { Distance } from "../transformer/case.ts";

/** Sample `item` of a golden tensor [B, C, T, H, W]. */
export function goldenVolume(golden: Golden, name: string, item = 0): Volume {
  const shape = golden.shape(name).slice(1) as [number, number, number, number];
  const size = shape.reduce((a, b) => a * b, 1);
  return { data: golden.f32(name).slice(item * size, (item + 1) * size), shape };
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

/**
 * Encodes, samples and decodes what the golden file `file` holds with the weights of a model below `pipelines`. The tiling is
 * that of the case.
 */
export async function runVae(
  pipelines: string,
  file: string,
  options: Omit<VaeOptions, "tiling"> = {},
): Promise<Distance[]> {
  const { device } = await testDevice();
  using session = new Session(device);
  using golden = new Golden(file);
  using vae = openVae(session, `${pipelines}/${golden.config.pipeline}`, { ...options, tiling: tilingOf(golden) });
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
