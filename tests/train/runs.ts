/** Small runs on the clips and the tiny model that the repository carries. */
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { resolveConfig, type TrainConfig } from "../../lib/config/config.ts";
import { trainOnGpus } from "../../lib/train/launch/launch.ts";
import type { TrainEvent } from "../../lib/train/report/events.ts";
import { train } from "../../lib/train/trainer.ts";
import { engine } from "../engine.ts";
import { fromFileUrl } from "../paths.ts";

/** Folder of the example clips and model. */
export const examples = fromFileUrl("../../examples", import.meta.url);

/** A folder of its own with a copy of the clips, removed at the end. */
export async function inScratch(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = Deno.makeTempDirSync();
  try {
    cpSync(join(examples, "clips"), join(folder, "clips"), {
      recursive: true,
      filter: (path) => !path.endsWith("/cache"),
    });
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A run of four steps on the copied clips, changed by `overrides`. */
export function configOf(folder: string, overrides: Record<string, unknown> = {}): TrainConfig {
  const text = `
model_path: ${join(examples, "tiny-2b")}
model_name: cogvideox-t2v
data_root: ${join(folder, "clips")}
output_dir: ${join(folder, "run")}
train_resolution: 9x32x48
rank: 4
learning_rate: 0.001
lr_warmup_steps: 2
train_steps: 4
engine: ${engine}
`;
  return resolveConfig(text, { overrides }).config;
}

/** Everything that a run tells: in this process, with several GPUs in as many others. */
export function collect(config: TrainConfig): Promise<TrainEvent[]> {
  return Array.fromAsync(config.gpus > 1 ? trainOnGpus(config) : train(config));
}
