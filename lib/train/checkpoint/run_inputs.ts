/**
 * What a run is trained on, as hashes in its checkpoints. A file that was replaced under its old name is noticed by the
 * run that continues: adapters go on with the weights that they correct alone, and of all else the run says so.
 */
import { createHash } from "node:crypto";
import type { TrainConfig } from "../../config/config.ts";
import { UserError } from "../../errors.ts";
import type { ModelFolder } from "../../models/folder/model_folder.ts";
import type { PreparedData } from "../data/prepare_data.ts";
import { readRunState, type RunInputs } from "./checkpoint.ts";

/** The hashes of a run: those of its clips, pictures and prompts, and of the parts of its model. */
export async function hashInputs(
  { training_type }: TrainConfig,
  model: ModelFolder,
  { samples, hash }: Pick<PreparedData, "samples" | "hash">,
): Promise<RunInputs> {
  const digest = createHash("sha256");
  for (const { latent, prompt, image } of samples) {
    const files = [latent.fields.file, image?.request.fields.file ?? null];
    digest.update(`${JSON.stringify([...files, prompt.fields.prompt])}\n`);
  }
  return {
    dataset: digest.digest("hex"),
    vae: `${samples[0]!.latent.fields.vae}`,
    text_encoder: `${samples[0]!.prompt.fields.textEncoder}`,
    // A checkpoint of all weights holds what the transformer has become.
    ...(training_type === "lora" ? { transformer: await hash(model.transformerFiles) } : {}),
  };
}

/**
 * Compares the inputs of a run with those of the checkpoint that it continues. One without hashes, as version 0.1 wrote
 * it, counts as equal.
 *
 * @returns a line for each input that is another one, as for settings that have changed.
 * @throws {UserError} when adapters would go on with another transformer.
 */
export function requireSameInputs(checkpoint: string, current: RunInputs, model: ModelFolder): string[] {
  const saved = readRunState(checkpoint).inputs ?? {};
  const short = (hash: string) => `SHA-256 ${hash.slice(0, 12)}`;
  const names = (Object.keys(current) as (keyof RunInputs)[]).filter((name) =>
    (saved[name] ?? current[name]) !== current[name]
  );
  if (names.includes("transformer")) {
    throw new UserError(
      `"${model.path}/transformer" is not what "${checkpoint}" was trained on: its files have ` +
        `${short(current.transformer!)}, expected ${short(saved.transformer!)}`,
      "put the files of that model back, or give their folder as model_path; to train the adapters on with this " +
        "model, begin a run of its own with init_lora",
    );
  }
  return names.map((name) => `${name}: ${short(saved[name]!)} in the checkpoint, ${short(current[name]!)} here`);
}
