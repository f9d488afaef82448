/** The stored pipeline runs of diffusers: `VARIANT.KIND` or `VARIANT.KIND.dynamic`, KIND being `ddim` or `dpm`. */
import type { RgbFrames } from "../../lib/data/video/video.ts";
import { openSafetensors } from "../../lib/io/safetensors/safetensors.ts";
import { caseName, casesOf, pipelineOf, type ReferenceCase } from "../reference.ts";

/** How a stored run was made. */
export interface RunConfig {
  readonly scheduler: "ddim" | "dpm";
  readonly steps: number;
  readonly guidance_scale: number;
  readonly use_dynamic_cfg: boolean;
  readonly prompt: string;
  readonly negative_prompt: string;
  readonly height: number;
  readonly width: number;
  readonly num_frames: number;
}

/** The runs of a kind of model. The plain DDIM one, which is first, also stores what all of them share. */
export interface StoredRuns {
  readonly variant: string;
  readonly model: string;
  readonly shared: ReferenceCase;
  readonly runs: readonly ReferenceCase[];
}

/** The stored runs by kind of model. */
export function storedRuns(): StoredRuns[] {
  const groups = Map.groupBy(casesOf("sampling"), (run) => caseName(run).replace(/\.(ddim|dpm)(\.dynamic)?$/, ""));
  return [...groups].map(([variant, runs]) => {
    const shared = runs.find((run) => run.tensors.includes("prompt_embeds"))!;
    return { variant, model: pipelineOf(shared), shared, runs };
  });
}

/** Entry `i` of the first dimension of a stored tensor. */
export function entry(values: Float32Array<ArrayBuffer>, count: number, i: number): Float32Array<ArrayBuffer> {
  const size = values.length / count;
  return values.slice(i * size, (i + 1) * size);
}

/** A stored picture [H, W, 3] or video [F, H, W, 3] of bytes. */
export function storedPixels(path: string, name: string): RgbFrames {
  using source = openSafetensors(path);
  const [width, height, frames = 1] = source.tensors.get(name)!.shape.slice(0, -1).toReversed() as [number, number];
  return { data: source.readBytes(name).slice(), frames, height, width };
}
