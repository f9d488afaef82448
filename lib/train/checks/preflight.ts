/**
 * Everything that can be known about a run before anything is computed. `train`, a dry run, `plan` and `data check` ask
 * the same questions, and all that is wrong with config, model, dataset, lists, memory and disks is said at once.
 */
import { MOST_ITERATIONS } from "../../../kernels/core/kernel.ts";
import { existsSync } from "node:fs";
import {
  type CollectedConfig,
  CONFIG_HINT,
  requireTrainable,
  type ResolvedConfig,
  type TrainConfig,
} from "../../config/config.ts";
import { clipShapes } from "../../config/derive.ts";
import { readDataset } from "../../data/dataset/dataset.ts";
import { TOOLS } from "../../data/video/ffmpeg.ts";
import { problemOf, UserError, UserErrors } from "../../errors.ts";
import { requireMemory } from "../../forecast/require_memory.ts";
import { requireOutside } from "../../io/program.ts";
import { findModelPath, localModelPath } from "../../models/folder/hub.ts";
import { type ModelConfigs, type ModelFolder, openModelFolder } from "../../models/folder/model_folder.ts";
import { namedModel } from "../../models/folder/named_model.ts";
import { latentSize, positionTableShape, RELEASED, type TransformerConfig } from "../../models/transformer/config.ts";
import { checkTransformer, startingValues, storedType } from "../../step/model_state.ts";
import { describeRun, namedTransformer, type RunDescription } from "../../step/run_description.ts";
import { datasetOptions } from "../data/dataset_options.ts";
import { drawnData } from "../data/drawn_data.ts";
import { prepareData, type PreparedData, type TrainingData } from "../data/prepare_data.ts";
import { checkParts, requireMatchingModel } from "./check_model.ts";
import { checkDisks } from "./disk.ts";
import { HeldOut } from "./held_out.ts";
import { readValidation } from "./validation.ts";

/** A run whose config, model and data are sound. */
export interface Ready {
  readonly model: ModelFolder;
  readonly run: RunDescription;
  readonly data: PreparedData;
  readonly heldOut: HeldOut | undefined;
  /** What may go wrong later. */
  readonly warnings: readonly string[];
}

/** A run on random weights and random clips that is sound. */
export interface DrawnRun {
  readonly model: ModelConfigs;
  readonly run: RunDescription;
  readonly data: TrainingData;
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

  /** One text for each mistake. */
  get problems(): string[] {
    return this.#errors.map(problemOf);
  }

  /** Throws a mistake as it is when it is the only one, else all of them together. */
  finish(): void {
    const [first, ...others] = this.#errors;
    if (first === undefined) return;
    if (others.length === 0) throw first;
    throw new UserErrors("This run cannot start", this.problems, "mend all of them and run it again");
  }
}

/**
 * Checks config, model folder, shapes, dataset, held-out clips, validation lists, memory and disks of a run whose model
 * is at `path`; decodes and encodes no clip.
 *
 * @throws {UserError} the mistake, or UserErrors with all of them.
 */
export async function preflight(config: TrainConfig, path: string, rank: number): Promise<Ready> {
  const checks = new Checks();
  const asked = { rank, clips: true, estimate: config.dry_run };
  const { model, run, data, heldOut, warnings } = await checkAll(checks, config, path, asked);
  checks.finish();
  return { model: model!, run: run!, data: data!, heldOut, warnings };
}

/**
 * Asks every question, as far as the answers to those before allow it. A run that goes on asks its own device about
 * memory; one that is refused, or that `estimate` says will not be made, is judged by a usual card, and for it no model
 * and clip is read as a whole.
 */
async function checkAll(
  checks: Checks,
  config: TrainConfig,
  path: string,
  { rank, clips, estimate }: { readonly rank: number; readonly clips: boolean; readonly estimate: boolean },
): Promise<{ readonly [key in Exclude<keyof Ready, "warnings">]?: Ready[key] | undefined } & Pick<Ready, "warnings">> {
  const model = await checks.run(() => openModelFolder(path));
  await checks.run(() => readValidation(config, model?.transformer));
  if (model === undefined) {
    // Without the model no cache entry has a name, but the lists can be read.
    if (clips) await checks.run(() => readDataset(config.data_root!, datasetOptions(config)));
    return { warnings: [] };
  }
  const run = await checks.run(() => checkRun(config, model, rank));
  await checks.run(() => checkParts(model));
  const data = clips ? await checks.run(() => prepareData(config, model, { estimate })) : undefined;
  const heldOut = await checks.run(() => HeldOut.prepare(config, model, { estimate }));
  if (run === undefined) return { model, data, heldOut, warnings: [] };
  const prepared = [data, heldOut?.data].filter((each) => each !== undefined);
  await checks.run(() => requireOutside(TOOLS, [config.output_dir, ...prepared.map(({ cache }) => cache.folder)]));
  const warnings = data && await checks.run(() => checkDisks(config, model, run, prepared));
  if (estimate || checks.problems.length > 0) {
    await checks.run(() => requireMemory({ ...config, model_path: path }, storedType(model)));
  }
  return { model, run, data, heldOut, warnings: warnings ?? [] };
}

/**
 * The same for a run on random weights that names no model folder: its clips are random too.
 *
 * @throws {UserError} the mistake, or UserErrors with all of them.
 */
export async function preflightDrawn(config: TrainConfig, rank: number): Promise<DrawnRun> {
  const checks = new Checks();
  const model = namedModel(config.model!);
  await checks.run(() => requireTokens(config, model.transformer));
  const run = await checks.run(() => describeRun(config, model.transformer, { rank }));
  checks.finish();
  if (run!.lora !== undefined) startingValues(config, run!.lora, model);
  return { model, run: run!, data: drawnData(config, model) };
}

/**
 * The run of a config as `train` makes it, for what asks about its kernels alone: no clip, no weight and no other part
 * of the model is looked at. A model that is not on this machine is taken by its name, `model`.
 *
 * @throws {UserError} the mistake, or that neither a folder nor a name tells the shape.
 */
export async function describeKernels(config: TrainConfig): Promise<RunDescription> {
  const { model_path, model: name } = config;
  const path = model_path === undefined ? undefined : findModelPath(model_path);
  if (model_path !== undefined && path === undefined && name === undefined) await localModelPath(model_path);
  if (path !== undefined) return checkRun(config, openModelFolder(path), 0);
  const transformer = namedTransformer(config);
  requireTokens(config, transformer);
  return describeRun(config, transformer);
}

/** What the transformer of a model must be for a run, and the run it makes. */
function checkRun(config: TrainConfig, model: ModelFolder, rank: number): RunDescription {
  requireMatchingModel(config, model);
  requireTokens(config, model.transformer);
  requirePositions(config, model);
  const run = describeRun(config, model.transformer, { stored: storedType(model), rank });
  if (!config.random_weights) checkTransformer(model, run);
  if (run.lora !== undefined) startingValues(config, run.lora, model);
  return run;
}

/**
 * Makes sure that attention serves the tokens of a clip and its prompt.
 *
 * @throws {UserError} with their number and the most there can be.
 */
function requireTokens(config: TrainConfig, transformer: TransformerConfig): void {
  const { patch_size, patch_size_t, max_text_seq_length } = transformer;
  for (const resolution of clipShapes(config)) {
    const { frames, padding, height, width } = latentSize(transformer, resolution);
    const patches = (frames + padding) / (patch_size_t ?? 1) * (height / patch_size) * (width / patch_size);
    const tokens = max_text_seq_length + patches;
    if (tokens <= MOST_ITERATIONS) continue;
    throw new UserError(
      `${shapeKey(config)} ${resolution.join("x")} makes ${tokens} tokens of a clip and its prompt, at most ` +
        `${MOST_ITERATIONS} are possible`,
      "use fewer frames or a smaller size",
    );
  }
}

/**
 * Makes sure that learned positions, which a checkpoint has for one height and width, serve every shape.
 *
 * @throws {UserError} with the shape and the one that they are made for.
 */
function requirePositions(config: TrainConfig, { transformer }: ModelFolder): void {
  if (config.random_weights || positionTableShape(transformer) === undefined) return;
  const { sample_frames: frames, sample_height, sample_width } = transformer;
  const [height, width] = [8 * sample_height, 8 * sample_width];
  for (const shape of clipShapes(config)) {
    if (shape[1] === height && shape[2] === width) continue;
    throw new UserError(
      `${shapeKey(config)} ${shape.join("x")}: the learned positions of this model fit ${height}x${width} pixels only`,
      `use shapes like ${frames}x${height}x${width}`,
    );
  }
}

function shapeKey({ buckets }: TrainConfig): string {
  return buckets.length === 0 ? "train_resolution" : "bucket";
}

/**
 * The part of {@linkcode preflight} that needs neither clips nor weights: for a forecast, and before a model is
 * downloaded. What the config leaves out is not asked for.
 *
 * @throws {UserError} the mistake, or UserErrors with all of them.
 */
export async function checkInputs(config: TrainConfig): Promise<void> {
  const checks = new Checks();
  await checkNamed(checks, config, { clips: true, shapes: true });
  checks.finish();
}

/** Checks what a config names; `shapes` where its values are known to be sound. */
async function checkNamed(
  checks: Checks,
  config: TrainConfig,
  { clips, shapes }: { readonly clips: boolean; readonly shapes: boolean },
): Promise<void> {
  const path = config.model_path === undefined ? undefined : findModelPath(config.model_path);
  const model = path === undefined ? undefined : await checks.run(() => openModelFolder(path));
  if (model !== undefined) {
    await checks.run(() => requireMatchingModel(config, model));
    if (shapes) await checks.run(() => requirePositions(config, model));
  }
  const transformer = model?.transformer ?? (config.model === undefined ? undefined : RELEASED[config.model]);
  if (transformer !== undefined && shapes) await checks.run(() => requireTokens(config, transformer));
  await checks.run(() => readValidation(config, shapes ? model?.transformer : undefined));
  for (const root of [clips ? config.data_root : undefined, config.heldout_root]) {
    if (root !== undefined) await checks.run(() => readDataset(root, datasetOptions(config)));
  }
}

/**
 * What is wrong with a run besides the clips that it trains on, for a check that looks at those itself. They count for
 * the space that a run needs where `clips` says that they are sound.
 */
export async function problemsBesides(
  config: TrainConfig,
  { clips }: { readonly clips: boolean },
): Promise<{ readonly problems: readonly string[]; readonly warnings: readonly string[] }> {
  const checks = new Checks();
  const path = config.model_path === undefined ? undefined : findModelPath(config.model_path);
  if (path === undefined) {
    await checkNamed(checks, config, { clips: false, shapes: true });
    return { problems: checks.problems, warnings: [] };
  }
  const { data, heldOut, warnings } = await checkAll(checks, config, path, { rank: 0, clips, estimate: true });
  using _data = data;
  using _heldOut = heldOut;
  return { problems: checks.problems, warnings };
}

/**
 * A config that was read, when nothing is wrong with it. Else what is wrong with the files it names is told with it;
 * `training` says that the run needs weights and data.
 *
 * @throws {UserErrors} with all of it.
 */
export async function requireConfig(
  { config, problems, notes }: CollectedConfig,
  { training }: { readonly training: boolean },
): Promise<ResolvedConfig> {
  if (config !== undefined && problems.length === 0) return { config, notes };
  const checks = new Checks();
  if (config !== undefined) {
    if (training) await checks.run(() => requireTrainable(config));
    const { data_root, ...rest } = config;
    const named = existsSync(data_root ?? "") ? config : rest;
    await checkNamed(checks, named, { clips: true, shapes: false });
  }
  throw new UserErrors("Cannot use this config", [...problems, ...checks.problems], CONFIG_HINT);
}
