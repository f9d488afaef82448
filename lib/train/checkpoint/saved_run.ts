/** A run put on disk as a checkpoint, and taken up from one: what trains, the optimizer, and how far the run is. */
import { join } from "node:path";
import { type Communicator, longPhase, PeerError } from "../../comm/exchange/communicator.ts";
import { requireResumable } from "../../config/compare.ts";
import { loadConfig, printConfig, type TrainConfig } from "../../config/config.ts";
import { UserError } from "../../errors.ts";
import type { Session } from "../../gpu/session.ts";
import { writeFileAtomic } from "../../io/atomic.ts";
import { checkpointName } from "../../io/checkpoints.ts";
import { commitFolder } from "../../io/commit_folder.ts";
import { NonFiniteError } from "../../io/safetensors/finite.ts";
import type { ModelConfigs } from "../../models/folder/model_folder.ts";
import type { LoraValues } from "../../models/lora/adapters.ts";
import { loraModules, updateNorm } from "../../models/lora/module.ts";
import type { OptimizerTensors } from "../../optim/update.ts";
import { writeModel } from "../../step/model_state.ts";
import type { RunDescription } from "../../step/run_description.ts";
import type { MeasuredLoss } from "../checks/best_loss.ts";
import { BEST_FOLDER } from "./output_folder.ts";
import {
  CONFIG_FILE,
  readRunState,
  restoreState,
  type RunInputs,
  type RunKernels,
  type RunMachine,
  type RunState,
  saveCheckpoint,
} from "./checkpoint.ts";
import { stateEntries } from "./state_entries.ts";

/** What a checkpoint is taken from. */
export interface SavedRun {
  readonly session: Session;
  readonly config: TrainConfig;
  readonly model: ModelConfigs;
  readonly run: RunDescription;
  readonly optimizer: OptimizerTensors;
  readonly communicator: Communicator;
  readonly kernels: RunKernels | undefined;
  readonly inputs: RunInputs | undefined;
  readonly machine: RunMachine;
}

/**
 * Takes over masters, optimizer states and counters. Returns the counters, and a line for every setting that differs
 * from the checkpoint's and changes the result.
 *
 * @throws {UserErrors} when the saved state does not fit the run.
 */
export async function restoreRun(
  { session, config, run, optimizer, communicator }: SavedRun,
  checkpoint: string,
): Promise<{ readonly state: RunState; readonly changes: readonly string[] }> {
  const saved = await loadConfig({ fileName: join(checkpoint, CONFIG_FILE) });
  const changes = requireResumable(saved.config, config);
  await restoreState(checkpoint, session, stateEntries(session, communicator, run, optimizer));
  return { state: readRunState(checkpoint), changes };
}

/**
 * Writes the model alone as the best so far, with what its held-out loss is; every rank calls it, and the first writes.
 */
export async function saveBest(
  { session, config, model, run, optimizer, communicator }: SavedRun,
  measured: MeasuredLoss,
): Promise<void> {
  if (communicator.rank === 0) {
    await commitFolder(join(config.output_dir, BEST_FOLDER), async (folder) => {
      await writeModel(session, config, model, run, optimizer.averages, folder);
      await writeFileAtomic(join(folder, "heldout.json"), `${JSON.stringify(measured)}\n`);
      await writeFileAtomic(join(folder, CONFIG_FILE), printConfig(config));
    }, { replace: true });
  }
  await communicator.barrier({ deadline: longPhase });
}

/** A checkpoint on disk. */
export interface SavedCheckpoint {
  readonly path: string;
  /** 0 on other ranks than the first. */
  readonly bytes: number;
  /** Of adapters, on the first rank: how far each layer is from the model. */
  readonly updateNorms?: Readonly<Record<string, number>>;
}

/**
 * Writes a checkpoint; every rank calls it, and the first writes.
 *
 * @returns on every rank what was saved, or what kept it from being saved: a disk that is full or fails, or somebody
 * else's files in its place.
 * @throws {NonFiniteError} when weights or optimizer state are not finite, which no other try would change.
 */
export async function saveRun(
  { session, config, model, run, optimizer, communicator, kernels, inputs, machine }: SavedRun,
  state: RunState,
): Promise<SavedCheckpoint | Error> {
  const entries = stateEntries(session, communicator, run, optimizer);
  const path = join(config.output_dir, checkpointName(state.step));
  // Shards are gathered while the first rank writes them, and also when it has given up writing.
  let gathered = 0;
  const counted = entries.map((entry) => ({ ...entry, read: () => (gathered++, entry.read()) }));
  let failure: UserError | undefined;
  let bytes = 0;
  let norms = {};
  if (communicator.rank === 0) {
    try {
      ({ bytes } = await saveCheckpoint(config.output_dir, {
        entries: counted,
        state: { ...state, ...(kernels && { kernels }), ...(inputs && { inputs }), machine },
        config: printConfig(config),
        writeModel: async (folder) => {
          const values = await writeModel(session, config, model, run, optimizer.averages, folder);
          if (values !== undefined) norms = { updateNorms: updateNorms(run, values) };
        },
        limit: config.checkpointing_limit,
      }));
    } catch (error) {
      if (!(error instanceof UserError) || error instanceof NonFiniteError) throw error;
      // A disk may have room again, a lost GPU does not come back.
      session.device.check();
      failure = error;
    }
  }
  if (run.shard !== undefined) {
    for (const entry of entries.slice(gathered)) await entry.read();
  }
  const failed = await communicator.agree(failure === undefined ? 0 : 1, { deadline: longPhase }) === 1;
  // The first rank alone has more to say, and its words are what the launcher passes on.
  return failed ? failure ?? new PeerError(`rank 0 could not save "${path}"`, 0) : { path, bytes, ...norms };
}

/**
 * Norms of alpha / rank B A by layer, on the host: rank^2 (in + out) products each, 4e9 for the 168 layers of the 5B
 * model at rank 64, which is seconds beside the steps between two checkpoints.
 */
function updateNorms({ lora, shapes }: RunDescription, values: LoraValues): Readonly<Record<string, number>> {
  const modules = loraModules(values, (layer) => lora!.layers.get(layer)!.alpha, shapes);
  return Object.fromEntries([...modules].map(([layer, module]) => [layer, updateNorm(module)]));
}
