/** Where training runs: in this process, on several GPUs of this machine with a process each, or as part of an MPI job. */
import { PeerError, peerFailureCode } from "../../comm/exchange/communicator.ts";
import { connect } from "../../comm/connect.ts";
import { launch } from "../../comm/launch/launcher.ts";
import { pinGpus } from "../../comm/gpus/gpus.ts";
import { UserError } from "../../errors.ts";
import type { TrainConfig } from "../../config/config.ts";
import type { TrainEvent } from "../report/events.ts";
import { trainInBackground } from "./background.ts";
import { train, type TrainOptions } from "../trainer.ts";

/** Seconds that the first step may take: a rank that compiles kernels is not stuck. */
const LEAST_FIRST_STEP = 900;

/** Begins a line of a rank's output that is an event or the failure that ended it. */
export const REPORT = "cogtune-report ";

/** What a rank reports besides plain lines. */
export type RankReport =
  | { readonly event: TrainEvent }
  | { readonly failure: { readonly user: boolean; readonly message: string } };

/** Lines that every process of a Vulkan program prints on a machine without a desktop; they mean nothing. */
const NOISE = /XDG_RUNTIME_DIR/;

/**
 * Trains the way the config and the surroundings ask for: as one rank of a job that mpirun started, in a process per GPU, or in a
 * worker of this process.
 */
export function trainAnywhere(config: TrainConfig, options: TrainOptions = {}): AsyncIterable<TrainEvent> {
  if (Deno.env.get("OMPI_COMM_WORLD_SIZE") !== undefined) return trainAsMember(config, options);
  return config.gpus > 1 ? trainOnGpus(config, options) : trainInBackground(config, options);
}

/** As `train`, as one rank of a job; other ranks than the first tell nothing. */
async function* trainAsMember(config: TrainConfig, options: TrainOptions): AsyncGenerator<TrainEvent> {
  const communicator = await connect({ usual: config.rank_timeout * 1000, firstStep: LEAST_FIRST_STEP * 1000 });
  try {
    // Every process names an output folder after its own clock; that of the first rank holds.
    const folder = new Uint8Array(4096);
    folder.set(new TextEncoder().encode(config.output_dir));
    await communicator.broadcast(folder, 0);
    const output_dir = new TextDecoder().decode(folder.subarray(0, folder.indexOf(0)));
    for await (const event of train({ ...config, output_dir, gpus: communicator.size }, { ...options, communicator })) {
      if (communicator.rank === 0) yield event;
    }
    await communicator.leave();
  } catch (error) {
    communicator.abort();
    throw error;
  }
}

/** As `train`, in `config.gpus` processes. Other lines that ranks print arrive as warnings with the rank in front. */
export async function* trainOnGpus(config: TrainConfig, { signal }: TrainOptions = {}): AsyncGenerator<TrainEvent> {
  const environments = await pinGpus(config.gpus);
  const events: TrainEvent[] = [];
  let failure: Extract<RankReport, { failure: unknown }>["failure"] | undefined;
  let wake = () => {};
  let ended = false;
  const running = launch({
    module: new URL("./rank_start.ts", import.meta.url),
    args: [JSON.stringify(config)],
    size: config.gpus,
    environments,
    deadlines: { usual: config.rank_timeout * 1000, firstStep: LEAST_FIRST_STEP * 1000 },
    ...(signal === undefined ? {} : { stop: signal }),
    onLine({ rank, text }) {
      if (text.startsWith(REPORT)) {
        const report: RankReport = JSON.parse(text.slice(REPORT.length));
        if ("event" in report) events.push(report.event);
        else failure ??= report.failure;
      } else if (text.trim() !== "" && !NOISE.test(text)) {
        events.push({ type: "warning", message: `rank ${rank}: ${text}` });
      }
      wake();
    },
  }).finally(() => {
    ended = true;
    wake();
  });
  // Awaited below; a failure before that must not count as unhandled.
  running.catch(() => {});
  while (!ended || events.length > 0) {
    const event = events.shift();
    if (event !== undefined) yield event;
    else await new Promise<void>((resolve) => wake = resolve);
  }
  const { code, cause } = await running;
  if (code === 0) return;
  if (failure?.user) throw new UserError(failure.message);
  const reason = failure === undefined ? "" : `: ${failure.message}`;
  const message = `${cause ?? `training ended with code ${code}`}${reason}`;
  throw code === peerFailureCode ? new PeerError(message) : new Error(message);
}
