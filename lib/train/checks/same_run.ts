/**
 * What ranks that train together must have in common: on several hosts, each reads a config and a dataset of its own.
 */
import { createHash } from "node:crypto";
import { type Communicator, longPhase } from "../../comm/exchange/communicator.ts";
import { gatherValues } from "../../comm/exchange/gather.ts";
import type { TrainConfig } from "../../config/config.ts";
import { pathKeys } from "../../config/derive.ts";
import { cacheKey } from "../../data/cache/key.ts";
import { UserErrors } from "../../errors.ts";
import type { TrainingData } from "../data/prepare_data.ts";

/** Keys that may differ from host to host: where things lie, not what they are. */
const OWN_KEYS: ReadonlySet<string> = new Set([...pathKeys, "model_path"]);

/** The settings of a config that decide what is trained, and a digest of the samples. */
function factsOf(config: TrainConfig, samples: TrainingData["samples"]): Record<string, string> {
  const settings = Object.entries(config).filter(([key]) => !OWN_KEYS.has(key));
  const digest = createHash("sha256");
  for (const { latent, prompt } of samples) digest.update(`${cacheKey(latent)} ${cacheKey(prompt)}\n`);
  return {
    ...Object.fromEntries(settings.map(([key, value]) => [key, JSON.stringify(value)])),
    dataset: `of SHA-256 ${digest.digest("hex").slice(0, 12)}`,
  };
}

/**
 * Makes sure that all ranks train the same: equal settings but for paths, and samples with the same content.
 *
 * @throws {UserErrors} on every rank, naming the keys and ranks that differ from rank 0.
 */
export async function requireSameRun(
  communicator: Communicator,
  config: TrainConfig,
  samples: TrainingData["samples"],
): Promise<void> {
  const [first, ...others] = await gatherValues(communicator, factsOf(config, samples), {
    deadline: longPhase,
  });
  const problems = others.flatMap((facts, i) =>
    Object.keys({ ...first, ...facts })
      .filter((key) => facts[key] !== first![key])
      .map((key) => `${key} is ${facts[key] ?? "not set"} on rank ${i + 1}, but ${first![key] ?? "not set"} on rank 0`)
  );
  if (problems.length > 0) {
    throw new UserErrors("The ranks do not train the same", problems, "start all ranks with the same config and data");
  }
}
