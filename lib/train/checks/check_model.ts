/**
 * Everything that can be known about a model folder before any of its weights are read: whether it is whole, and the
 * one meant.
 */
import { join } from "node:path";
import { loadTokenizer } from "../../data/text/tokenizer.ts";
import { requireVocabulary, type VocabularyTable } from "../../data/text/vocabulary.ts";
import { parseScheduleConfig } from "../../diffusion/schedule.ts";
import { problemOf, UserError, UserErrors } from "../../errors.ts";
import type { ModelFolder } from "../../models/folder/model_folder.ts";
import { openTextEncoderWeights } from "../../models/t5/encoder.ts";
import { isImageToVideo, isVersion15, RELEASED, type TransformerConfig } from "../../models/transformer/config.ts";
import { openVaeWeights } from "../../models/vae/vae.ts";
import type { TrainConfig } from "../../config/config.ts";
import type { ModelName } from "../../config/groups/model.ts";

/** The trainer name a transformer goes by. */
function nameOf(transformer: TransformerConfig): ModelName {
  return `cogvideox${isVersion15(transformer) ? "1.5" : ""}-${isImageToVideo(transformer) ? "i2v" : "t2v"}`;
}

/**
 * Checks that the folder holds the kind of model that the config trains: image to video or not, 1.0 or 1.5, and the
 * kind of positions. A model of another kind would train without an error and learn nothing that sampling can use.
 *
 * @throws {UserErrors} naming config key and file.
 */
export function requireMatchingModel(config: TrainConfig, { path, transformer }: ModelFolder): void {
  const file = join(path, "transformer/config.json");
  const found = nameOf(transformer);
  const problems: string[] = [];
  if (found !== config.model_name) {
    const { patch_size_t, in_channels } = transformer;
    problems.push(
      `model_name is ${config.model_name}, but "${file}" is of a ${found} model (patch_size_t ${patch_size_t}, in_channels ${in_channels})`,
    );
  } else if (config.model !== undefined) {
    const key = "use_rotary_positional_embeddings";
    const expected = RELEASED[config.model][key];
    if (transformer[key] !== expected) {
      problems.push(`model is ${config.model}, whose ${key} is ${expected}, but "${file}" says ${transformer[key]}`);
    }
  }
  if (problems.length > 0) {
    throw new UserErrors(
      "Config and model are of different kinds",
      problems,
      "choose the preset of this model, or point model_path at the model that the config is for",
    );
  }
}

/**
 * Checks names, shapes and files of text encoder, tokenizer, autoencoder and scheduler; no weight is read.
 *
 * @throws {UserErrors} with what is wrong in all of them.
 */
export function checkParts({ path, transformer, scheduler }: ModelFolder): void {
  const problems: string[] = [];
  const attempt = (check: () => unknown) => {
    try {
      check();
    } catch (error) {
      problems.push(problemOf(error));
    }
  };
  let table: VocabularyTable | undefined;
  attempt(() => {
    using encoder = openTextEncoderWeights(path);
    table = encoder.config;
    const { d_model } = table;
    if (d_model !== transformer.text_embed_dim) {
      throw new UserError(
        `d_model in "${
          join(path, "text_encoder/config.json")
        }" is ${d_model}, but text_embed_dim of the transformer is ` +
          `${transformer.text_embed_dim}: they are parts of different models`,
        "take text_encoder and transformer from one model",
      );
    }
  });
  attempt(() => {
    const tokenizer = loadTokenizer(join(path, "tokenizer"));
    if (table !== undefined) requireVocabulary(tokenizer, table, path);
  });
  attempt(() => openVaeWeights(path)[Symbol.dispose]());
  attempt(() => parseScheduleConfig(scheduler, join(path, "scheduler/scheduler_config.json")));
  if (problems.length === 0) return;
  throw new UserErrors(`Cannot use model_path "${path}"`, problems, "get the files that are named here again");
}
