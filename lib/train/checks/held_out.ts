/**
 * Loss on clips that are not trained on, at fixed noise and timesteps, so that two steps differ by the weights alone.
 * Per band of timesteps, because early (clean) and late (noisy) timesteps learn at different rates.
 */
import { type Communicator, longPhase } from "../../comm/exchange/communicator.ts";
import { gatherNumbers } from "../../comm/exchange/gather.ts";
import { UserError } from "../../errors.ts";
import { Arena, Executable } from "../../gpu/executable.ts";
import type { Session } from "../../gpu/session.ts";
import type { ModelFolder } from "../../models/folder/model_folder.ts";
import { finish } from "../../plan/recording.ts";
import { type BatchSource, makeBatch } from "../data/batches.ts";
import type { TrainConfig } from "../../config/config.ts";
import type { HeldOutEvent } from "../report/events.ts";
import { prepareData, type PreparedData } from "../data/prepare_data.ts";
import type { RunDescription } from "../../step/run_description.ts";
import { microRecordings, recordLoss, type StepRecording, uploadBatch } from "../../step/training_step.ts";

/** Bands of timesteps that are reported apart. */
const BANDS = 4;

/** Fixed timesteps per clip and band. */
const PER_BAND = 2;

/** Clips kept apart from training. */
export class HeldOut implements Disposable {
  private constructor(readonly config: TrainConfig, readonly data: PreparedData) {}

  /** Reads the folder `heldout_root`; undefined when there is none. */
  static async prepare(
    config: TrainConfig,
    model: ModelFolder,
    { estimate }: { readonly estimate: boolean },
  ): Promise<HeldOut | undefined> {
    if (config.heldout_root === undefined) return undefined;
    // A cache of its own, since the folder may be on another disk.
    const { cache_dir: _shared, id_token: _token, snr_gamma: _weights, ...rest } = config;
    const own: TrainConfig = {
      ...rest,
      data_root: config.heldout_root,
      batch_size: 1,
      condition_dropout: 0,
      caption_dropout: 0,
      noise_offset: 0,
    };
    return new HeldOut(own, await prepareData(own, model, { estimate }));
  }

  /** Whether a measurement is due after `step` of `totalSteps` optimizer steps. */
  isDue(step: number, totalSteps: number): boolean {
    return step % this.config.heldout_steps === 0 || step === totalSteps;
  }

  /**
   * Measures with the weights on the device; all ranks call it together and share the draws out, and all get the same
   * sums. Needs the arena of one forward pass of batch 1 of the largest shape; `inputs` and what else the training
   * step keeps resident is used again.
   */
  async run(
    session: Session,
    run: RunDescription,
    recording: StepRecording,
    source: Omit<BatchSource, "samples" | "cache" | "config">,
    communicator: Communicator,
    step: number,
  ): Promise<HeldOutEvent> {
    if (run.step.shape.batch !== 1) {
      throw new UserError("heldout_root needs batch_size 1", "use gradient_accumulation_steps for a larger batch");
    }
    using stack = new DisposableStack();
    const buckets = microRecordings(recording);
    const losses = buckets.map((tensors) =>
      finish(recordLoss(session.device.target, run.step, run.parameters, tensors), session.limits)
    );
    const arena = stack.use(new Arena(session, losses));
    const executables = losses.map((loss) => stack.use(new Executable(session, loss, arena)));
    const { config, data: { cache, samples } } = this;
    const draws = BANDS * PER_BAND;
    const span = source.alphas.length / draws;
    const own = new Array<number>(samples.length * draws).fill(0);
    for (let place = communicator.rank; place < own.length; place += communicator.size) {
      const timestep = Math.floor((place % draws + 0.5) * span);
      const item = { index: Math.floor(place / draws), globalIndex: place };
      const batch = makeBatch({ ...source, config, cache, samples }, [item]);
      const { bucket = 0 } = batch;
      uploadBatch(
        session,
        buckets[bucket]!,
        { ...batch, timesteps: [timestep], alphas: [source.alphas[timestep]!] },
        0,
      );
      await executables[bucket]!.run();
      own[place] = (await session.readF32(recording.loss))[0]!;
    }
    const ranks = await gatherNumbers(communicator, own, { deadline: longPhase });
    const sums = new Float64Array(BANDS);
    for (const place of own.keys()) {
      sums[Math.floor(place % draws / PER_BAND)]! += ranks[place % communicator.size]![place]!;
    }
    const counted = samples.length * PER_BAND;
    const bands = [...sums].map((sum, band) => ({
      from: Math.floor(band * PER_BAND * span),
      to: Math.floor((band + 1) * PER_BAND * span) - 1,
      loss: sum / counted,
    }));
    return { type: "heldout", step, loss: bands.reduce((sum, { loss }) => sum + loss, 0) / BANDS, bands };
  }

  [Symbol.dispose](): void {
    this.data[Symbol.dispose]();
  }
}
