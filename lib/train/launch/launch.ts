/**
 * Where training runs: in this process, on several GPUs of this machine with a process each, or as part of an MPI job.
 */
import { connect } from "../../comm/connect.ts";
import type { TrainConfig } from "../../config/config.ts";
import type { TrainEvent } from "../report/events.ts";
import { train, trainAsRank, type TrainOptions } from "../trainer.ts";
import { deadlinesOf, rankEvents } from "./ranks.ts";
import { workerEvents } from "./worker.ts";

/**
 * Trains the way the config and the surroundings ask for: as one rank of a job that mpirun started, in a process per
 * GPU, or in this thread, which then waits for the GPU: timers and signals are heard between steps.
 *
 * @example
 * ```ts
 * import { loadConfig, trainAnywhere, UserErrors } from "@cogtune/cogtune";
 *
 * const { config } = await loadConfig({ preset: "5b-lora", overrides: { data_root: "nowhere", gpus: 1 } });
 * try {
 * for await (const { type } of trainAnywhere(config)) throw new Error(`told ${type} before the folder was found
 * missing`); } catch (error) {
 *   if (!(error instanceof UserErrors)) throw error;
 * }
 * ```
 */
export function trainAnywhere(config: TrainConfig, options: TrainOptions = {}): AsyncIterable<TrainEvent> {
  if (isMember()) return trainAsMember(config, options);
  return config.gpus > 1 ? trainOnGpus(config, options) : train(config, options);
}

/** As {@linkcode trainAnywhere} for a program that ends by `Deno.exit`: what would run in this thread has a worker. */
export function trainForProgram(config: TrainConfig, options: TrainOptions = {}): AsyncIterable<TrainEvent> {
  if (isMember() || config.gpus > 1) return trainAnywhere(config, options);
  return workerEvents(new URL("./worker_start.ts", import.meta.url), config, options);
}

/** Whether mpirun started this process. */
function isMember(): boolean {
  return Deno.env.get("OMPI_COMM_WORLD_SIZE") !== undefined;
}

/** As `train`, as one rank of a job; other ranks than the first tell nothing. */
async function* trainAsMember(config: TrainConfig, options: TrainOptions): AsyncGenerator<TrainEvent> {
  const communicator = await connect(deadlinesOf(config));
  try {
    // Every process names an output folder after its own clock; that of the first rank holds.
    const folder = new Uint8Array(4096);
    folder.set(new TextEncoder().encode(config.output_dir));
    await communicator.broadcast(folder, 0);
    const output_dir = new TextDecoder().decode(folder.subarray(0, folder.indexOf(0)));
    for await (const event of trainAsRank({ ...config, output_dir, gpus: communicator.size }, communicator, options)) {
      if (communicator.rank === 0) yield event;
    }
    await communicator.leave();
  } catch (error) {
    communicator.abort();
    throw error;
  }
}

/**
 * As `train`, in `config.gpus` processes. Other lines that ranks print arrive as warnings with the rank in front.
 * Leaving the loop ends all ranks.
 *
 * @throws {PeerError} when a rank was killed or made no progress; else what a rank threw.
 * @example
 * ```ts
 * import { parseConfig, trainOnGpus } from "@cogtune/cogtune";
 *
 * const config = parseConfig("model_path: examples/tiny-2b\nmodel_name: cogvideox-t2v\ndata_root: examples/clips", {
 *   overrides: { train_resolution: "9x32x48", rank: 4, train_steps: 1, output_dir: Deno.makeTempDirSync(), gpus: 1 },
 * });
 * for await (const event of trainOnGpus(config)) {
 *   if (event.type === "step") break;
 * }
 * ```
 */
export function trainOnGpus(config: TrainConfig, options: TrainOptions = {}): AsyncGenerator<TrainEvent> {
  return rankEvents(new URL("./rank_start.ts", import.meta.url), config, options);
}
