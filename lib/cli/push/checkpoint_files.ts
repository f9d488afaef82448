/**
 * What of a checkpoint is for others: the files that programs load, and the videos sampled at its step. State for
 * resuming, the config with its paths, and everything else stay here.
 */
import { VALIDATION_FOLDER } from "../../data/dataset/captions.ts";
import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { loadConfig, type TrainConfig } from "../../config/config.ts";
import { UserError, UserErrors } from "../../errors.ts";
import { listCheckpoints } from "../../io/checkpoints.ts";
import { manifestName, readManifest, verifyFolder } from "../../io/commit_folder.ts";
import { statIfThere } from "../../io/file_operations.ts";
import type { SampleEvent } from "../../train/report/events.ts";

/** Paths of a checkpoint that inference reads: the LoRA, or the transformer with its config, shards and their index. */
const INFERENCE =
  /^(pytorch_lora_weights\.safetensors|transformer\/(config\.json|diffusion_pytorch_model[\w.-]*\.(safetensors|json)))$/;

/** A file here and its name there. */
export interface PublicFile {
  readonly name: string;
  readonly path: string;
  /** Bytes. */
  readonly size: number;
}

/** A checkpoint as others get it. */
export interface PublicCheckpoint {
  /** Its folder. */
  readonly folder: string;
  /** Optimizer steps that it was trained for. */
  readonly step: number | undefined;
  readonly config: TrainConfig;
  readonly weights: readonly PublicFile[];
  readonly videos: readonly (PublicFile & { readonly prompt: string })[];
}

/**
 * The public part of a checkpoint, verified against its manifest.
 *
 * @param path folder of a checkpoint, its LoRA file, or the output folder of a run, which stands for its best model
 * where one is kept, else for its last checkpoint.
 * @throws {UserError} when there is none, or it is damaged.
 */
export async function publicCheckpoint(path: string): Promise<PublicCheckpoint> {
  const folder = checkpointFolder(path);
  const { problems } = await verifyFolder(folder);
  if (problems.length > 0) {
    throw new UserErrors(`The checkpoint "${folder}" is damaged`, problems, "push an older one");
  }
  const manifest = readManifest(folder);
  const weights = manifest.filter(({ name }) => INFERENCE.test(name))
    .map(({ name, size }) => ({ name, size, path: join(folder, name) }));
  const config = join(folder, "config.yaml");
  if (weights.length === 0 || !manifest.some(({ name }) => name === "config.yaml")) {
    throw new UserError(
      `"${folder}" holds no ${weights.length === 0 ? "model" : "config.yaml"}: expected a checkpoint of a training run`,
      "give a folder checkpoint-<step> or the output_dir of a run",
    );
  }
  const step = stepOf(folder);
  return {
    folder,
    step,
    config: (await loadConfig({ fileName: config })).config,
    weights,
    videos: step === undefined ? [] : validationVideos(dirname(folder), step),
  };
}

function checkpointFolder(path: string): string {
  const stat = statIfThere(path);
  if (stat === undefined) {
    throw new UserError(`"${path}" does not exist`, "give a checkpoint or the output_dir of a run");
  }
  const folder = stat.isFile() ? dirname(path) : path;
  const isWhole = (candidate: string) => existsSync(join(candidate, manifestName));
  const found = [folder, join(folder, "best"), listCheckpoints(folder).at(-1)?.path ?? folder].find(isWhole);
  if (found !== undefined) return found;
  throw new UserError(
    `"${path}" is neither a checkpoint nor the folder of a run that has one`,
    "give a folder checkpoint-<step> or the output_dir of a run",
  );
}

function stepOf(folder: string): number | undefined {
  const note = join(folder, "heldout.json");
  if (existsSync(note)) return (JSON.parse(readFileSync(note, "utf8")) as { readonly step: number }).step;
  const [, step] = /^checkpoint-(\d+)$/.exec(basename(folder)) ?? [];
  return step === undefined ? undefined : Number(step);
}

/** Videos of a step that are there, as the record of the run tells them. */
function validationVideos(run: string, step: number): PublicCheckpoint["videos"] {
  const record = join(run, "metrics.jsonl");
  if (!existsSync(record)) return [];
  // What follows the last line break is a line whose writing was interrupted.
  const lines = readFileSync(record, "utf8").split("\n").slice(0, -1)
    .filter((line) => line.includes('"type":"sample"'));
  const events = lines.map((line) => JSON.parse(line) as SampleEvent).filter((event) => event.step === step);
  // A run that was interrupted while it validated samples again, under the same names.
  const newest = new Map(events.map(({ path, prompt }) => [join(run, VALIDATION_FOLDER, basename(path)), prompt]));
  return [...newest].filter(([path]) => existsSync(path)).map(([path, prompt], i) => ({
    name: `videos/${i + 1}.mp4`,
    path,
    size: statSync(path).size,
    prompt,
  }));
}
