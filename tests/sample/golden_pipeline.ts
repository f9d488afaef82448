/** The stored pipeline runs of diffusers. */
import { readFileSync } from "node:fs";
import type { RgbFrames } from "../../lib/data/video/video.ts";
import { openSafetensors } from "../../lib/io/safetensors/safetensors.ts";

export const VARIANTS = ["2b", "5b", "5b-i2v", "1.5-5b", "1.5-5b-i2v"];

/** How a stored run was made. */
export interface RunConfig {
  readonly pipeline: string;
  readonly steps: number;
  readonly guidance_scale: number;
  readonly use_dynamic_cfg: boolean;
  readonly prompt: string;
  readonly negative_prompt: string;
  readonly height: number;
  readonly width: number;
  readonly num_frames: number;
}

/** The config of a stored case. */
export function caseConfig<T>(folder: string, file: string): T {
  const index = JSON.parse(readFileSync(`${folder}/index.json`, "utf8")) as { cases: { file: string; config: T }[] };
  return index.cases.find((entry) => entry.file === file)!.config;
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
