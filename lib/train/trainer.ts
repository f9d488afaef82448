/** The training loop: data in, optimizer steps, checkpoints and events out. */
import { join } from "node:path";
import { createSampler, type MicroStep, type Sampler } from "../data/random/sampler.ts";
import { alphasCumprod, parseScheduleConfig } from "../diffusion/schedule.ts";
import { UserError } from "../errors.ts";
import { type Device, openDevice } from "../gpu/device.ts";
import { firstNonFinite } from "../gpu/diagnose.ts";
import { Session } from "../gpu/session.ts";
import { type Communicator, longPhase } from "../comm/exchange/communicator.ts";
import { checkPlacement } from "../comm/gpus/placement.ts";
import { createSingle } from "../comm/exchange/single.ts";
import { gatherValues } from "../comm/exchange/gather.ts";
import { checkpointName } from "../io/checkpoints.ts";
import { localModelPath, resolveModelPath } from "../models/folder/hub.ts";
import { type ModelFolder, openModelFolder } from "../models/folder/model_folder.ts";
import { type BatchSource, makeBatch } from "./data/batches.ts";
import { checkParts, requireMatchingModel } from "./checks/check_model.ts";
import { requireSameRun } from "./checks/same_run.ts";
import { CONFIG_FILE, readRunState, restoreState, type RunState, saveCheckpoint } from "./checkpoint/checkpoint.ts";
import { loadConfig, printConfig, requireTrainable, type TrainConfig } from "../config/config.ts";
import { requireResumable } from "../config/compare.ts";
import type { SavedEvent, SkippedEvent, StepEvent, TrainEvent } from "./report/events.ts";
import { learningRateMultiplier } from "../optim/learning_rate.ts";
import { createExchange, type GradientExchange } from "../step/exchange.ts";
import { HeldOut } from "./checks/held_out.ts";
import { LossScale } from "../optim/loss_scale.ts";
import { checkpointOf, openOutputFolder } from "./checkpoint/output_folder.ts";
import { requireMemory } from "../forecast/require_memory.ts";
import { RunRecords } from "./report/run_records.ts";
import { gatherFigures } from "./report/gather_figures.ts";
import { stateEntries, type StateEntry } from "./checkpoint/state_entries.ts";
import { initialiseOptimizer } from "../optim/update.ts";
import { capOf, fillCache, prepareData, type PreparedData } from "./data/prepare_data.ts";
import { describeRun, type RunDescription } from "../step/run_description.ts";
import {
  checkTransformer,
  refreshCopies,
  startShard,
  storedType,
  uploadModel,
  writeModel,
} from "../step/model_state.ts";
import { Validation } from "./checks/validation.ts";
import { type MicroBatch, recordStep, type StepResult, TrainingStep } from "../step/training_step.ts";

/** Skipped steps in a row after which a run is considered broken. */
const MOST_SKIPPED = 20;

/** Options of {@linkcode train}. */
export interface TrainOptions {
  /** Aborting finishes the step, saves and ends the run. */
  readonly signal?: AbortSignal;
  /** The processes that train together; every one of them calls `train`, and rank 0 tells what happens. */
  readonly communicator?: Communicator;
}

/**
 * Trains as `config` says and tells what happens. The run holds a lock on its output folder; whatever ends it, the last
 * committed checkpoint is whole.
 *
 * @throws {UserError} for every mistake in config, data or model, before any weight is loaded.
 */
export async function* train(config: TrainConfig, options: TrainOptions = {}): AsyncGenerator<TrainEvent> {
  const { signal, communicator = createSingle() } = options;
  const isFirst = communicator.rank === 0;
  requireTrainable(config);
  const model = openModelFolder(
    config.dry_run ? localModelPath(config.model_path!) : yield* resolveModelPath(config.model_path!, { signal }),
  );
  requireMatchingModel(config, model);
  const run = describeRun(config, model.transformer, { stored: storedType(model), rank: communicator.rank });
  if (!config.random_weights) checkTransformer(model, run);
  checkParts(model);
  const data = await prepareData(config, model);
  await requireSameRun(communicator, config, data.samples);
  const heldOut = await HeldOut.prepare(config, model);
  if (config.dry_run) return void await checkpointOf(config);
  // Before the output folder is touched: a machine without a GPU leaves no trace of the attempt.
  using device = await openDevice({ engine: config.engine });
  await checkPlacement(communicator, { deadline: longPhase });
  requireMemory(device, { ...config, model_path: model.path }, storedType(model));
  using output = isFirst ? await openOutputFolder(config) : undefined;
  for (const message of [...output?.warnings ?? [], ...data.warnings]) yield { type: "warning", message };
  const fill = { signal, share: communicator };
  yield* fillCache(device, config, model, data, fill);
  if (heldOut !== undefined) yield* heldOut.fill(device, model, fill);
  const validation = await Validation.prepare(device, config, model, communicator);
  const notes = await gatherValues(communicator, validation?.own.notes ?? [], { deadline: longPhase });
  for (const message of notes.flat()) yield { type: "warning", message: `validation: ${message}` };
  using trainer = new Trainer(device, config, model, run, data, { validation, heldOut, communicator });
  // The other ranks look after that exchange, when the first has put the folder in order.
  yield* trainer.start(isFirst ? output?.checkpoint : (await checkpointOf(config))?.path);
  using records = isFirst ? new RunRecords(config, trainer.step) : undefined;
  for await (const event of trainer.run(signal, records)) {
    records?.write(event);
    yield event;
  }
}

/** What a run has besides its model and data. */
interface Company {
  readonly validation: Validation | undefined;
  readonly heldOut: HeldOut | undefined;
  readonly communicator: Communicator;
}

/** One run on one GPU. */
class Trainer implements Disposable {
  readonly #session: Session;
  #step: TrainingStep;
  readonly #exchange: GradientExchange;
  readonly #sampler: Sampler;
  readonly #source: BatchSource;
  readonly #totalSteps: number;
  #scale: LossScale;
  /** What the run continues from. */
  #checkpoint: string | undefined;
  #done = 0;
  #applied = 0;
  #skippedInRow = 0;

  constructor(
    readonly device: Device,
    readonly config: TrainConfig,
    readonly model: ModelFolder,
    readonly description: RunDescription,
    data: PreparedData,
    readonly company: Company,
  ) {
    const { samples, cache } = data;
    this.#session = new Session(device, capOf(config));
    const { parameters, trainables, updated } = description;
    const { communicator } = company;
    for (const { tensor, of, byteOffset } of description.shard?.aliases ?? []) {
      this.#session.host.alias(tensor, of, byteOffset);
    }
    const session = this.#session;
    this.#exchange = createExchange({ session, communicator, run: description, reduction: config.reduction });
    const accumulation = config.gradient_accumulation_steps * communicator.size;
    const optimizer = { ...description.step.optimizer, hostNorm: this.#exchange.hostNorm };
    const step = { ...description.step, accumulation, optimizer };
    const recording = recordStep(device.target, session.limits, step, parameters, updated);
    this.#step = new TrainingStep(session, step, recording, trainables.buckets);
    this.#sampler = createSampler({
      samples: samples.length,
      batchSize: config.batch_size,
      accumulation,
      seed: config.seed,
    });
    this.#totalSteps = config.train_steps ?? config.train_epochs * this.#sampler.stepsPerEpoch;
    const schedule = parseScheduleConfig(model.scheduler, join(model.path, "scheduler/scheduler_config.json"));
    const alphas = alphasCumprod(schedule);
    this.#source = { config, model: model.transformer, vae: model.vae, cache, samples, alphas };
    this.#scale = new LossScale(config.mixed_precision === "fp16", undefined);
  }

  /** Uploads the model and, when resuming, the saved state. */
  async *start(checkpoint: string | undefined): AsyncGenerator<TrainEvent> {
    const { config, model, description } = this;
    const { recording } = this.#step;
    const warnings = await uploadModel(this.#session, config, model, description, recording);
    await startShard(this.#session, description);
    await initialiseOptimizer(this.#session, description.updated, recording.optimizer);
    if (checkpoint !== undefined) {
      const saved = await loadConfig({ fileName: join(checkpoint, CONFIG_FILE) });
      warnings.push(...requireResumable(saved.config, config));
      await restoreState(checkpoint, this.#session, this.#entries());
      const state = readRunState(checkpoint);
      this.#checkpoint = checkpoint;
      this.#done = state.step;
      this.#applied = state.applied;
      this.#scale = new LossScale(config.mixed_precision === "fp16", state.lossScale);
    }
    await refreshCopies(this.#session, description);
    await this.#exchange.afterUpdate();
    const { lora, trainables } = description;
    const parameters = lora === undefined
      ? [...trainables.byName.values()].reduce((sum, { master }) => sum + master.size, 0)
      : [...lora.layers.values()].reduce((sum, [out, inWidth]) => sum + config.rank * (out + inWidth), 0);
    yield {
      type: "started",
      step: this.#done,
      totalSteps: this.#totalSteps,
      clips: this.#source.samples.length,
      parameters,
      device: this.device.adapter.description,
      outputDir: config.output_dir,
    };
    for (const message of warnings) yield { type: "warning", message };
  }

  /** Optimizer steps done. */
  get step(): number {
    return this.#done;
  }

  /** Makes the remaining steps. `records` are put on disk before every checkpoint, and tell what an interruption has cut off. */
  async *run(signal: AbortSignal | undefined, records: RunRecords | undefined): AsyncGenerator<TrainEvent> {
    const started = performance.now();
    let path = this.#checkpoint;
    yield* this.#check(signal, records);
    const { communicator } = this.company;
    // Ranks hear of a stop at different moments, so they agree on the step after which they end.
    while (this.#done < this.#totalSteps && await communicator.agree(signal?.aborted === true ? 1 : 0) === 0) {
      const event = await this.#optimizerStep();
      communicator.endFirstStep();
      const last = this.#done === this.#totalSteps;
      if (event.type === "skipped" || last || this.#done % this.config.log_every === 0) yield event;
      path = undefined;
      // Before the checks, so that nothing that goes wrong in them costs a step.
      if (last || this.#done % this.config.checkpointing_steps === 0) {
        records?.sync();
        const saved = await this.#save();
        path = saved.path;
        yield saved;
      }
      yield* this.#check(signal, records);
    }
    if (path === undefined) {
      records?.sync();
      const saved = await this.#save();
      path = saved.path;
      yield saved;
    }
    yield {
      type: "finished",
      step: this.#done,
      seconds: (performance.now() - started) / 1000,
      path,
      interrupted: this.#done < this.#totalSteps,
    };
  }

  /**
   * Held-out loss and validation videos that are due and not yet recorded, with the arenas of the training step out of the way.
   * All ranks share the work.
   */
  async *#check(signal: AbortSignal | undefined, records: RunRecords | undefined): AsyncGenerator<TrainEvent> {
    const { communicator, heldOut, validation } = this.company;
    const done = this.#done;
    const isDue = (check: Validation | HeldOut | undefined) => check?.isDue(done, this.#totalSteps) === true;
    if (!isDue(heldOut) && !isDue(validation)) return;
    // The first rank alone knows what is recorded, so it says what all do.
    const asks = communicator.rank === 0 && signal?.aborted !== true;
    const measures = asks && isDue(heldOut) && records?.has("heldout", done, 1) !== true;
    const samples = asks && isDue(validation) && records?.has("sample", done, validation!.requests.length) !== true;
    const wanted = await communicator.agree(Number(measures) + 2 * Number(samples));
    if (wanted === 0) return;
    const { recording, buckets, config } = this.#step;
    this.#step[Symbol.dispose]();
    if ((wanted & 1) !== 0) {
      yield await heldOut!.run(this.#session, this.description, recording, this.#source, communicator, done);
    }
    if ((wanted & 2) !== 0) yield* validation!.run(this.#session, this.description, done, signal);
    this.#step = new TrainingStep(this.#session, config, recording, buckets);
  }

  async #optimizerStep(): Promise<StepEvent | SkippedEvent> {
    const { config, company: { communicator } } = this;
    const started = performance.now();
    const { waited } = communicator;
    const learningRate = config.learning_rate * learningRateMultiplier(this.#applied, {
      schedule: config.lr_scheduler,
      warmupSteps: config.lr_warmup_steps,
      totalSteps: this.#totalSteps,
      cycles: config.lr_num_cycles,
      power: config.lr_power,
      initialRate: config.learning_rate,
    });
    this.#step.begin();
    const window = this.#window();
    const block = this.#exchange.begin(window.length);
    const micros: { clips: string[]; batch: MicroBatch }[] = [];
    for (const micro of window.slice(block.begin, block.end)) {
      const batch = makeBatch(this.#source, micro, micro.items);
      micros.push({ clips: micro.items.map(({ index }) => this.#source.samples[index]!.item.name), batch });
      await this.#step.micro(batch, this.#scale.value);
      await this.#exchange.afterMicro();
    }
    const squares = await this.#exchange.finish();
    const scale = this.#scale.value;
    const own = await this.#step.update(learningRate, this.#applied + 1, scale, squares);
    await this.#exchange.afterUpdate();
    const { losses, ranks } = await gatherFigures(communicator, {
      losses: own.losses,
      begin: block.begin,
      total: window.length,
      seconds: (performance.now() - started - (communicator.waited - waited)) / 1000,
      gpuBytes: this.#session.allocatedBytes,
    });
    const result = { ...own, losses };
    this.#done++;
    if (result.skipped) return await this.#skipped(result, micros, scale);
    this.#scale.update(false);
    this.#applied++;
    this.#skippedInRow = 0;
    return {
      type: "step",
      step: this.#done,
      totalSteps: this.#totalSteps,
      loss: result.losses.reduce((sum, loss) => sum + loss, 0) / result.losses.length,
      gradNorm: result.gradientNorm,
      learningRate,
      secondsPerStep: (performance.now() - started) / 1000,
      epoch: (window.at(-1)!.number + 1) / this.#sampler.microStepsPerEpoch,
      gpuBytes: this.#session.allocatedBytes,
      ...(communicator.size > 1 ? { ranks } : {}),
      ...(this.#scale.enabled ? { lossScale: scale } : {}),
    };
  }

  /** The micro-batches of the next optimizer step, over all ranks. */
  #window(): MicroStep[] {
    const window: MicroStep[] = [];
    for (let number = this.#sampler.firstMicroStep(this.#done);; number++) {
      const micro = this.#sampler.microStep(number);
      window.push(micro);
      if (micro.sync) return window;
    }
  }

  /** A step whose loss or gradient is not finite: no weight has changed; finds out which clip and tensor began it. */
  async #skipped(
    result: StepResult,
    micros: readonly { clips: string[]; batch: MicroBatch }[],
    scale: number,
  ): Promise<SkippedEvent> {
    const overflow = this.#scale.canShrink && result.losses.every(Number.isFinite);
    this.#scale.update(true);
    let found = { micro: micros[0] ?? { clips: ["of another rank"], batch: undefined }, tensor: "the gradients" };
    if (!overflow) {
      this.#step.begin();
      for (const micro of micros) {
        this.#step.upload(micro.batch, scale);
        const tensor = await firstNonFinite(this.#session, this.#step.recording.micro);
        if (tensor === undefined) continue;
        found = { micro, tensor };
        break;
      }
    }
    if (++this.#skippedInRow >= MOST_SKIPPED) {
      throw new UserError(
        `${MOST_SKIPPED} steps in a row had a loss or gradient that is not finite; the last began with ${found.tensor} on ` +
          `${found.micro.clips.join(", ")}`,
        "lower learning_rate, train in bf16 instead of fp16, and resume from a checkpoint before the first skipped step",
      );
    }
    return {
      type: "skipped",
      step: this.#done,
      reason: overflow ? "overflow" : result.losses.every(Number.isFinite) ? "non-finite gradient" : "non-finite loss",
      clip: found.micro.clips.join(", "),
      timestep: found.micro.batch?.timesteps[0] ?? 0,
      tensor: found.tensor,
    };
  }

  /** What an exact continuation needs. */
  #entries(): StateEntry[] {
    const { optimizer } = this.#step.recording;
    return stateEntries(this.#session, this.company.communicator, this.description, optimizer);
  }

  async #save(): Promise<SavedEvent> {
    const { config, model, description } = this;
    const { optimizer } = this.#step.recording;
    const started = performance.now();
    const state: RunState = {
      step: this.#done,
      applied: this.#applied,
      lossScale: { value: this.#scale.value, goodSteps: this.#scale.goodSteps },
    };
    const { communicator } = this.company;
    const path = join(config.output_dir, checkpointName(this.#done));
    const entries = this.#entries();
    let bytes = 0;
    if (communicator.rank === 0) {
      ({ bytes } = await saveCheckpoint(config.output_dir, {
        entries,
        state,
        config: printConfig(config),
        writeModel: (folder) => writeModel(this.#session, config, model, description, optimizer.averages, folder),
        limit: config.checkpointing_limit,
      }));
    } else if (description.shard !== undefined) {
      // Shards are gathered while the first rank writes them.
      for (const entry of entries) await entry.read();
    }
    await communicator.barrier({ deadline: longPhase });
    return { type: "saved", step: this.#done, path, bytes, seconds: (performance.now() - started) / 1000 };
  }

  [Symbol.dispose](): void {
    this.#step[Symbol.dispose]();
    this.#session[Symbol.dispose]();
  }
}
