/**
 * Everything that can be known about a run before anything is computed. `train`, a dry run and `plan` ask the same
 * questions, and all that is wrong with config, model, dataset and lists is said at once.
 */
import { MOST_ITERATIONS } from "../../../kernels/core/kernel.ts";
import type { TrainConfig } from "../../config/config.ts";
import { readDataset } from "../../data/dataset/dataset.ts";
import { problemOf, UserError, UserErrors } from "../../errors.ts";
import { requireFreeBytes } from "../../io/file_operations.ts";
import { findModelPath } from "../../models/folder/hub.ts";
import { type ModelFolder, openModelFolder } from "../../models/folder/model_folder.ts";
import { latentSize, RELEASED, type TransformerConfig } from "../../models/transformer/config.ts";
import { checkTransformer, startingValues, storedType } from "../../step/model_state.ts";
import { describeRun, type RunDescription } from "../../step/run_description.ts";
import { datasetOptions } from "../data/dataset_options.ts";
import { prepareData, type PreparedData } from "../data/prepare_data.ts";
import { checkParts, requireMatchingModel } from "./check_model.ts";
import { HeldOut } from "./held_out.ts";
import { readValidation } from "./validation.ts";

/** A run whose config, model and data are sound. */
export interface Ready {
  readonly model: ModelFolder;
  readonly run: RunDescription;
  readonly data: PreparedData;
  readonly heldOut: HeldOut | undefined;
}

/** Runs checks that do not depend on each other and keeps what they find. */
class Checks {
  readonly #errors: UserError[] = [];

  /** What `check` returns; undefined when it found a mistake. */
  async run<T>(check: () => T | Promise<T>): Promise<T | undefined> {
    try {
      return await check();
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.#errors.push(error);
    }
  }

  /** Throws a mistake as it is when it is the only one, else all of them together. */
  finish(): void {
    const [first, ...others] = this.#errors;
    if (first === undefined) return;
    if (others.length === 0) throw first;
    throw new UserErrors("This run cannot start", this.#errors.map(problemOf), "mend all of them and run it again");
  }
}

/**
 * Checks config, model folder, shapes, dataset, held-out clips and validation lists of a run whose model is at `path`;
 * decodes and encodes no clip.
 *
 * @throws {UserError} the mistake, or UserErrors with all of them.
 */
export async function preflight(config: TrainConfig, path: string, rank: number): Promise<Ready> {
  const checks = new Checks();
  const found = await checks.run(() => openModelFolder(path));
  await checks.run(() => readValidation(config, found?.transformer));
  if (found === undefined) {
    // Without the model no cache entry has a name, but the lists can be read.
    await checks.run(() => readDataset(config.data_root!, datasetOptions(config)));
    checks.finish();
  }
  const model = found!;
  const run = await checks.run(() => checkRun(config, model, rank));
  await checks.run(() => checkParts(model));
  const data = await checks.run(() => prepareData(config, model));
  const heldOut = await checks.run(() => HeldOut.prepare(config, model));
  for (const each of [data, heldOut?.data]) {
    if (each !== undefined) await checks.run(() => requireSpace(config, model, each));
  }
  checks.finish();
  return { model, run: run!, data: data!, heldOut };
}

/** What the transformer of a model must be for a run, and the run it makes. */
function checkRun(config: TrainConfig, model: ModelFolder, rank: number): RunDescription {
  requireMatchingModel(config, model);
  requireTokens(config, model.transformer);
  const run = describeRun(config, model.transformer, { stored: storedType(model), rank });
  if (!config.random_weights) checkTransformer(model, run);
  if (run.lora !== undefined) startingValues(config, run.lora, model);
  return run;
}

/**
 * Makes sure that the disk of a cache holds what has to be encoded.
 *
 * @throws {UserError} with the bytes wanted and free.
 */
function requireSpace(config: TrainConfig, { transformer, vae }: ModelFolder, { cache, plan }: PreparedData): void {
  const { frames, height, width } = latentSize(transformer, config.train_resolution);
  const picture = 2 * vae.latent_channels * height * width;
  const values = {
    latent: picture * frames,
    image: picture,
    prompt: transformer.max_text_seq_length * transformer.text_embed_dim,
  };
  const missing = [...plan.new, ...plan.changed];
  requireFreeBytes(cache.folder, missing.reduce((sum, { request }) => sum + 4 * values[request.kind], 0));
}

/**
 * Makes sure that attention serves the tokens of a clip and its prompt.
 *
 * @throws {UserError} with their number and the most there can be.
 */
function requireTokens(config: TrainConfig, transformer: TransformerConfig): void {
  const { frames, padding, height, width } = latentSize(transformer, config.train_resolution);
  const { patch_size, patch_size_t, max_text_seq_length } = transformer;
  const patches = (frames + padding) / (patch_size_t ?? 1) * (height / patch_size) * (width / patch_size);
  const tokens = max_text_seq_length + patches;
  if (tokens <= MOST_ITERATIONS) return;
  throw new UserError(
    `train_resolution ${config.train_resolution.join("x")} makes ${tokens} tokens of a clip and its prompt, at most ` +
      `${MOST_ITERATIONS} are possible`,
    "use fewer frames or a smaller size",
  );
}

/**
 * The part of {@linkcode preflight} that needs neither clips nor weights: for a forecast, and before a model is
 * downloaded. What the config leaves out is not asked for.
 *
 * @throws {UserError} the mistake, or UserErrors with all of them.
 */
export async function checkInputs(config: TrainConfig): Promise<void> {
  const checks = new Checks();
  const path = config.model_path === undefined ? undefined : findModelPath(config.model_path);
  const model = path === undefined ? undefined : await checks.run(() => openModelFolder(path));
  if (model !== undefined) {
    await checks.run(() => requireMatchingModel(config, model));
  }
  const transformer = model?.transformer ?? (config.model === undefined ? undefined : RELEASED[config.model]);
  if (transformer !== undefined) await checks.run(() => requireTokens(config, transformer));
  await checks.run(() => readValidation(config, model?.transformer));
  for (const root of [config.data_root, config.heldout_root]) {
    if (root !== undefined) await checks.run(() => readDataset(root, datasetOptions(config)));
  }
  checks.finish();
}
