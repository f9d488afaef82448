/** Measurements of kernels as a run before would have left them: measuring all of a run takes minutes. */
import type { Problem } from "../../../kernels/core/kernel.ts";
import type { TrainConfig } from "../../../lib/config/config.ts";
import type { Device } from "../../../lib/gpu/device.ts";
import { openModelFolder } from "../../../lib/models/folder/model_folder.ts";
import { storedType } from "../../../lib/step/model_state.ts";
import { describeRun } from "../../../lib/step/run_description.ts";
import { problemsOfRun } from "../../../lib/train/kernels.ts";
import { cardOf, digest, writeTable } from "../../../lib/tune/table.ts";
import { textsOf } from "../../../lib/tune/trial.ts";
import { testDevice } from "../../kernels/run.ts";

/** Runs `body` with a cache folder of its own. */
export async function withCache(body: (cache: string) => Promise<void>): Promise<void> {
  const cache = await Deno.makeTempDir();
  Deno.env.set("XDG_CACHE_HOME", cache);
  try {
    await body(cache);
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
}

/** A run as the trainer describes it. */
export function described(config: TrainConfig) {
  const model = openModelFolder(config.model_path!);
  return describeRun(config, model.transformer, { stored: storedType(model) });
}

/** The problems of a run on a device. */
export function problems(config: TrainConfig, device: Device): Problem[] {
  return problemsOfRun(device, described(config));
}

/** Puts choices for a run's problems on disk, but those of the last `open` ones; returns all. */
export async function plant(
  config: TrainConfig,
  open: number,
  choose: (problem: Problem) => string | undefined,
): Promise<Map<string, string>> {
  const { device } = await testDevice();
  const all = problems(config, device);
  const choices = new Map(all.map((problem) => [problem.key, choose(problem) ?? problem.preferred]));
  const planted = Object.fromEntries(
    all.slice(0, all.length - open).map((problem) => [problem.key, {
      texts: digest(textsOf(problem)),
      variant: choices.get(problem.key)!,
      milliseconds: {},
      refused: {},
    }]),
  );
  await writeTable({ card: cardOf(device.adapter), problems: planted });
  return choices;
}
