/**
 * Checkpoints `checkpoint-<step>`: what loads elsewhere (a LoRA file, or a diffusers transformer folder) beside
 * everything an exact continuation needs. Committed as a whole or not at all.
 */
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { UserError, UserErrors } from "../../errors.ts";
import type { Session } from "../../gpu/session.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import { checkpointName, latestValid, pruneCheckpoints } from "../../io/checkpoints.ts";
import { commitFolder, verifyFolder } from "../../io/commit_folder.ts";
import type { Dtype } from "../../io/safetensors/dtypes.ts";
import { readJsonObject } from "../../io/json_file.ts";
import { findNonFinite, requireFinite } from "../../io/safetensors/finite.ts";
import { openSafetensors } from "../../io/safetensors/safetensors.ts";
import { writeSafetensors } from "../../io/safetensors/writer.ts";
import { bytesOf } from "../../../kernels/core/kernel.ts";
import { elements } from "../../plan/tensor.ts";
import type { StateEntry } from "./state_entries.ts";

/** Counters of a run at the end of an optimizer step. The sampler's position follows from `step`. */
export interface RunState {
  /** Optimizer steps done, skipped ones included. */
  readonly step: number;
  /** Updates applied: what bias correction and the learning-rate schedule count. */
  readonly applied: number;
  readonly lossScale: { readonly value: number; readonly goodSteps: number };
  /** Set when the run uses measured kernels. */
  readonly kernels?: RunKernels;
  /** Set where the run has clips and a model on disk. */
  readonly inputs?: RunInputs;
  /** What has made the steps since the run began or was continued; absent in checkpoints of version 0.1. */
  readonly machine?: RunMachine;
}

/** What decides how a sum is rounded, as a user would name it. */
export interface RunMachine {
  readonly gpu: string;
  readonly runtime: string;
  readonly program: string;
}

/** SHA-256 of what a run is trained on; `transformer` where it trains adapters to it. */
export type RunInputs = Readonly<Partial<Record<"dataset" | "vae" | "text_encoder" | "transformer", string>>>;

/** Variants of kernels that a run uses, by keys of problems, and the card that they were measured on. */
export interface RunKernels {
  readonly card: string;
  readonly choices: Readonly<Record<string, string>>;
}

const STATE_FILE = "state.safetensors";
const COUNTERS_FILE = "trainer.json";
/** The resolved config a checkpoint was written under. */
export const CONFIG_FILE = "config.yaml";

/** What a checkpoint is made of. */
export interface CheckpointContent {
  readonly entries: readonly StateEntry[];
  readonly state: RunState;
  /** Resolved config as YAML. */
  readonly config: string;
  /** Writes the files that other programs load. */
  readonly writeModel: (folder: string) => Promise<void>;
  /** Newest checkpoints to keep. */
  readonly limit: number;
}

/**
 * Writes one checkpoint and removes those beyond the limit. Returns its path and size.
 *
 * @throws {NonFiniteError} when a value of the state is NaN or infinite. @throws {UserError} when the disk refuses.
 */
export async function saveCheckpoint(
  outputDir: string,
  { entries, state, config, writeModel, limit }: CheckpointContent,
): Promise<{ readonly path: string; readonly bytes: number }> {
  const path = join(outputDir, checkpointName(state.step));
  const expectedBytes = entries.reduce((sum, { shape, dtype }) => sum + elements(shape) * bytesOf(dtype), 0);
  const files = await commitFolder(path, async (folder) => {
    // Before the model, which is made of these: so that what is not finite is told of here, for every kind of model.
    await writeSafetensors(
      join(folder, STATE_FILE),
      entries.map(({ name, shape, dtype, read }) => ({
        name,
        dtype: dtype.toUpperCase() as Dtype,
        shape: [...shape],
        data: async function* () {
          const bytes = await read();
          if (dtype !== "u32") requireFinite(name, bytes, dtype);
          yield bytes;
        },
      })),
    );
    await writeModel(folder);
    await writeFileAtomic(join(folder, COUNTERS_FILE), JSON.stringify(state, null, 2) + "\n");
    await writeFileAtomic(join(folder, CONFIG_FILE), config);
  }, { expectedBytes, replace: true });
  await pruneCheckpoints(outputDir, limit, { committed: path });
  return { path, bytes: files.reduce((sum, { size }) => sum + size, 0) };
}

/** A checkpoint to continue from. */
export interface FoundCheckpoint {
  readonly path: string;
  /** Damaged checkpoints that were passed over. */
  readonly warnings: readonly string[];
}

/**
 * The checkpoint that `resume_from_checkpoint` means, verified against its manifest.
 *
 * @throws {UserError} when there is none, or it is damaged: a run never starts from scratch unasked.
 */
export async function findCheckpoint(resume: string, outputDir: string): Promise<FoundCheckpoint> {
  if (resume === "latest") {
    const { checkpoint, damaged } = await latestValid(outputDir);
    if (checkpoint !== undefined) {
      const { step } = readRunState(checkpoint.path);
      if (step !== checkpoint.step) {
        throw new UserError(
          `"${checkpoint.path}" was renamed: it holds step ${step}, so that the newest checkpoint cannot be told`,
          `name it ${checkpointName(step)} again, or give the path of the checkpoint to continue from`,
        );
      }
      const warnings = damaged.map(({ path, problems }) =>
        `"${path}" is damaged (${problems.join("; ")}): continuing from ${basename(checkpoint.path)}`
      );
      return { path: checkpoint.path, warnings };
    }
    throw new UserError(
      damaged.length > 0
        ? `No checkpoint in "${outputDir}" is whole: ${damaged.length} damaged`
        : `resume_from_checkpoint is latest, but "${outputDir}" holds no checkpoint`,
      "give the path of a checkpoint-<step> folder, or drop resume_from_checkpoint to start from the beginning",
    );
  }
  if (!existsSync(resume)) {
    throw new UserError(
      `resume_from_checkpoint "${resume}" does not exist`,
      "give the path of a checkpoint-<step> folder, `latest`, or drop the option to start from the beginning",
    );
  }
  const { problems } = await verifyFolder(resume);
  if (problems.length > 0) {
    throw new UserErrors(
      `The checkpoint "${resume}" is damaged`,
      problems,
      "resume from an older one, or from `latest`",
    );
  }
  return { path: resume, warnings: [] };
}

/**
 * Counters of a checkpoint.
 *
 * @throws {UserErrors} when some are missing or no counters: a run would begin its schedule or its clips anew.
 */
export function readRunState(checkpoint: string): RunState {
  const path = join(checkpoint, COUNTERS_FILE);
  const state = readJsonObject(path, "this folder is not a checkpoint of cogtune") as unknown as RunState;
  const { step, applied, lossScale } = state;
  const problems: string[] = [];
  const require = (name: string, value: unknown, expected: string, isRight: boolean) => {
    if (!isRight) problems.push(`${name} is ${JSON.stringify(value) ?? "missing"}, expected ${expected}`);
  };
  const isCount = (value: unknown) => Number.isSafeInteger(value) && Number(value) >= 0;
  require("step", step, "a whole number", isCount(step));
  require("applied", applied, "a whole number up to step", isCount(applied) && !(applied > step));
  require("lossScale.value", lossScale?.value, "a positive number", lossScale?.value > 0);
  require("lossScale.goodSteps", lossScale?.goodSteps, "a whole number", isCount(lossScale?.goodSteps));
  if (problems.length === 0) return state;
  throw new UserErrors(`Cannot continue from "${path}"`, problems, "resume from another checkpoint, or from `latest`");
}

/** Takes over the saved tensors. Throws UserError when they do not fit the run or are not finite. */
export async function restoreState(
  checkpoint: string,
  session: Session,
  entries: readonly StateEntry[],
): Promise<void> {
  using file = openSafetensors(join(checkpoint, STATE_FILE));
  const problems: string[] = [];
  for (const { name, shape, dtype } of entries) {
    const found = file.tensors.get(name);
    if (found === undefined) problems.push(`"${name}" is missing`);
    else if (`${found.shape}` !== `${shape}`) {
      problems.push(`"${name}" has shape [${found.shape}]: this run needs [${shape}]`);
    } else if (found.dtype !== dtype.toUpperCase()) {
      problems.push(`"${name}" is stored as ${found.dtype}: this run needs ${dtype.toUpperCase()}`);
    }
  }
  if (problems.length > 0 || file.tensors.size !== entries.length) {
    throw new UserErrors(
      `Cannot continue from "${checkpoint}"`,
      problems.length > 0 ? problems : [`it holds ${file.tensors.size} tensors, this run has ${entries.length}`],
      "resume with the training_type, rank, target_modules and optimizer the checkpoint was made with",
    );
  }
  for (const { name, dtype, restore } of entries) {
    restore((begin, end) => {
      const bytes = file.readBytes(name, begin, end);
      if (dtype === "u32" || findNonFinite(bytes, dtype) < 0) return bytes;
      throw new UserError(
        `Cannot continue from "${checkpoint}": "${name}" holds NaN or infinity`,
        "resume from a checkpoint before the fault",
      );
    });
    await session.flush();
  }
}
