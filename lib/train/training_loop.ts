/** The training loop: data in, optimizer steps, checkpoints and events out. */
import { join } from "node:path";
import { gpuMemoryLimit, type TrainConfig } from "../config/config.ts";
import type { DatasetItem } from "../data/dataset/dataset.ts";
import { createSampler, type MicroStep, type Sampler } from "../data/random/sampler.ts";
import { alphasCumprod, parseScheduleConfig } from "../diffusion/schedule.ts";
import { Session } from "../gpu/session.ts";
import { LossScale } from "../optim/loss_scale.ts";
import { hasDiverged, type RangePoint, rangeResult } from "../optim/rate_range.ts";
import { initialiseOptimizer } from "../optim/update.ts";
import { createExchange, type GradientExchange } from "../step/exchange.ts";
import { refreshCopies, startShard, uploadModel } from "../step/model_state.ts";
import { trainedParameters } from "../step/run_description.ts";
import { recordStep, TrainingStep } from "../step/training_step.ts";
import { SaveSchedule } from "./checkpoint/save_schedule.ts";
import { restoreRun, saveBest, type SavedCheckpoint, type SavedRun, saveRun } from "./checkpoint/saved_run.ts";
import { bestOf, isStale, type MeasuredLoss } from "./checks/best_loss.ts";
import type { HeldOut } from "./checks/held_out.ts";
import { type NamedMicroBatch, SkippedSteps } from "./checks/skipped_steps.ts";
import { type StepParts, UnusualSteps } from "./checks/unusual_steps.ts";
import type { Validation } from "./checks/validation.ts";
import type { PreparedRun } from "./prepared_run.ts";
import { BatchMaker } from "./data/batch_maker.ts";
import type { BatchSource } from "./data/batches.ts";
import { requireTimesteps } from "./data/noising.ts";
import type {
  ExampleRequest,
  HeldOutEvent,
  SkippedEvent,
  StepEvent,
  TrainEvent,
  WarningEvent,
} from "./report/events.ts";
import { gatherFigures } from "./report/gather_figures.ts";
import type { RunRecords } from "./report/run_records.ts";
import { StepWork } from "./report/step_work.ts";
import { stepRate } from "./step_rate.ts";

/** Steps of a range test: six decades of rates in factors of 1.15. */
const RANGE_STEPS = 100;

/** Why a run ends before its last step, as ranks tell each other. */
const STALE = 1;
const INTERRUPTED = 2;

/** The request that a clip answers. */
function exampleOf({ model_type }: TrainConfig, { prompt, imagePath, videoPath }: DatasetItem): ExampleRequest {
  return model_type === "i2v" ? { prompt, image: imagePath ?? videoPath } : { prompt };
}

/** The steps of one rank. */
export class TrainingLoop implements Disposable {
  readonly #session: Session;
  #step: TrainingStep;
  readonly #exchange: GradientExchange;
  readonly #sampler: Sampler;
  readonly #source: BatchSource;
  readonly #totalSteps: number;
  #scale: LossScale;
  /** What the run continues from. */
  #checkpoint: string | undefined;
  /** Held-out losses of the run so far. */
  #measured: MeasuredLoss[] = [];
  #done = 0;
  #steps = 0;
  #applied = 0;
  readonly #batches: BatchMaker;
  readonly #skips = new SkippedSteps();
  readonly #unusual = new UnusualSteps();
  /** Of the last step that was made. */
  #parts: StepParts | undefined;
  readonly #work: StepWork;
  readonly #saves: SaveSchedule;

  constructor(readonly prepared: PreparedRun) {
    const { device, config, model, run, data, communicator } = prepared;
    const session = new Session(device, gpuMemoryLimit(config));
    this.#session = session;
    const { step, parameters, trainables, updated } = run;
    for (const { tensor, of, byteOffset } of run.shard?.aliases ?? []) session.host.alias(tensor, of, byteOffset);
    const recording = recordStep(device.target, session.limits, step, parameters, updated);
    this.#exchange = createExchange({ session, communicator, run, reduction: config.reduction, loss: recording.loss });
    this.#step = new TrainingStep(session, step, recording, trainables.buckets);
    this.#work = new StepWork(recording, prepared.peaks);
    this.#sampler = createSampler({
      samples: data.samples.length,
      batchSize: config.batch_size,
      accumulation: step.accumulation,
      seed: config.seed,
      buckets: data.samples.map(({ bucket }) => bucket),
    });
    this.#totalSteps = config.train_steps ??
      (config.lr_range_test ? RANGE_STEPS : config.train_epochs * this.#sampler.stepsPerEpoch);
    this.#saves = new SaveSchedule(config.checkpointing_steps, this.#totalSteps);
    const schedule = parseScheduleConfig(model.scheduler, join(model.path ?? "", "scheduler/scheduler_config.json"));
    const alphas = alphasCumprod(schedule);
    requireTimesteps(config, alphas.length);
    const { cache, samples, emptyPrompt } = data;
    this.#source = { config, model: model.transformer, vae: model.vae, cache, samples, emptyPrompt, alphas };
    this.#batches = new BatchMaker(device, this.#source);
    this.#scale = new LossScale(config.mixed_precision === "fp16", undefined);
  }

  /** Uploads the model and, when resuming, the saved state. */
  async *start(checkpoint: string | undefined): AsyncGenerator<TrainEvent> {
    const { device, config, model, run } = this.prepared;
    const { recording, buckets, config: step } = this.#step;
    // Plans that draw weights or compute the first magnitudes run in memory that the forecast has counted for steps.
    const plans = config.use_dora || config.random_weights;
    if (plans) this.#step[Symbol.dispose]();
    const warnings = await uploadModel(this.#session, config, model, run, recording);
    if (plans) this.#step = new TrainingStep(this.#session, step, recording, buckets);
    await startShard(this.#session, run);
    await initialiseOptimizer(this.#session, run.updated, recording.optimizer);
    if (checkpoint !== undefined) {
      const { state, changes } = await restoreRun(this.#savedRun(), checkpoint);
      warnings.push(...changes);
      this.#checkpoint = checkpoint;
      this.#done = state.step;
      this.#applied = state.applied;
      this.#scale = new LossScale(config.mixed_precision === "fp16", state.lossScale);
    }
    await refreshCopies(this.#session, run);
    await this.#exchange.afterUpdate();
    yield {
      type: "started",
      step: this.#done,
      totalSteps: this.#totalSteps,
      clips: this.#source.samples.length,
      parameters: trainedParameters(run),
      device: device.title,
      outputDir: config.output_dir,
      example: exampleOf(config, this.#source.samples[0]!.item),
    };
    for (const message of warnings) yield { type: "warning", message };
  }

  /** Optimizer steps done. */
  get step(): number {
    return this.#done;
  }

  /**
   * Makes the remaining steps. `records` are put on disk before every checkpoint, and tell what an interruption has cut
   * off.
   */
  async *run(
    { signal, abandon }: { readonly signal?: AbortSignal; readonly abandon?: AbortSignal },
    records: RunRecords | undefined,
  ): AsyncGenerator<TrainEvent> {
    const started = performance.now();
    let path = this.#checkpoint;
    this.#measured = [...records?.measured ?? []];
    yield* this.#check(signal, records);
    const { communicator, config, profiler, memory } = this.prepared;
    let ending = 0;
    while (this.#done < this.#totalSteps) {
      // Ranks hear of a stop at different moments, so they agree on the step after which they end.
      ending = await communicator.agree(signal?.aborted === true ? INTERRUPTED : this.#isStale() ? STALE : 0);
      if (ending !== 0) break;
      const event = await (profiler === undefined ? this.#optimizerStep() : profiler.step(() => this.#optimizerStep()));
      const last = this.#done === this.#totalSteps;
      if (event.type === "skipped" || last || this.#done % config.log_every === 0) yield event;
      if (event.type === "step") yield* this.#unusual.look(event, this.#parts!);
      const profile = await profiler?.report(this.#done, last);
      if (profile !== undefined) yield profile;
      yield* memory?.note("training", this.#session.peakBytes) ?? [];
      if (last && this.#applied === 0) this.#skips.requireMade();
      path = undefined;
      // Before the checks, so that nothing that goes wrong in them costs a step.
      if (this.#saves.isDue(this.#done)) path = yield* this.#saved(records);
      yield* this.#check(signal, records);
    }
    abandon?.throwIfAborted();
    const cutShort = ending === 0 ? undefined : await profiler?.report(this.#done, true);
    if (cutShort !== undefined) yield cutShort;
    const best = bestOf(this.#measured);
    path ??= yield* this.#saved(records, { isLast: true });
    yield {
      type: "finished",
      step: this.#done,
      seconds: (performance.now() - started) / 1000,
      path: path!,
      interrupted: ending === INTERRUPTED,
      ...(best === undefined ? {} : { bestStep: best.step }),
    };
  }

  /** Makes steps on the first step's clips and noise at rising learning rates; nothing is saved. */
  async *rangeTest(signal: AbortSignal | undefined): AsyncGenerator<TrainEvent> {
    const { communicator } = this.prepared;
    const points: RangePoint[] = [];
    let rate: number | undefined;
    while (this.#done < this.#totalSteps && await communicator.agree(signal?.aborted === true ? 1 : 0) === 0) {
      const event = await this.#optimizerStep();
      yield event;
      if (event.type === "skipped") {
        if (event.reason === "overflow") continue;
        break;
      }
      points.push({ rate, loss: event.loss });
      if (hasDiverged(points)) break;
      rate = event.learningRate;
    }
    const result = rangeResult(points);
    yield { type: "range_test", step: this.#done, ...(result === undefined ? {} : { result }) };
  }

  /** Whether the held-out loss has stopped falling; the first rank alone knows those of before an interruption. */
  #isStale(): boolean {
    const { config: { early_stop }, communicator } = this.prepared;
    return communicator.rank === 0 && early_stop !== undefined && isStale(this.#measured, early_stop);
  }

  /** Measures the held-out loss and, when it is the lowest of all trained weights so far, keeps them. */
  async #measure(heldOut: HeldOut): Promise<HeldOutEvent> {
    const { communicator, config, run } = this.prepared;
    const { recording } = this.#step;
    const event = await heldOut.run(this.#session, run, recording, this.#source, communicator, this.#done);
    this.#measured.push(event);
    const best = bestOf(this.#measured.filter(({ step }) => step > 0));
    const isBest = communicator.rank === 0 && config.keep_best && best?.step === event.step;
    // Before the event is told and recorded: a run that is interrupted in between measures again.
    if (await communicator.agree(isBest ? 1 : 0) === 1) {
      await saveBest(this.#savedRun(), { step: event.step, loss: event.loss });
    }
    return event;
  }

  /**
   * Held-out loss and validation videos that are due and not yet recorded, with the arenas of the training step out of
   * the way. All ranks share the work.
   */
  async *#check(signal: AbortSignal | undefined, records: RunRecords | undefined): AsyncGenerator<TrainEvent> {
    const { communicator, heldOut, validation, run, memory } = this.prepared;
    const done = this.#done;
    const isDue = (check: Validation | HeldOut | undefined) => check?.isDue(done, this.#totalSteps) === true;
    if (!isDue(heldOut) && !isDue(validation)) return;
    // The first rank alone knows what is recorded, so it says what all do.
    const asks = communicator.rank === 0 && signal?.aborted !== true;
    const measures = asks && isDue(heldOut) && records?.has("heldout", done, 1) !== true;
    const samples = asks && isDue(validation) && records?.has("sample", done, validation!.requests.length) !== true;
    const wanted = await communicator.agree(Number(measures) + 2 * Number(samples));
    if (wanted === 0) return;
    yield* this.#renewed();
    const { recording, buckets, config } = this.#step;
    this.#step[Symbol.dispose]();
    if ((wanted & 1) !== 0) yield await this.#measure(heldOut!);
    if ((wanted & 2) !== 0) {
      this.#session.peakBytes = this.#session.allocatedBytes;
      yield* validation!.run(this.#session, run, done, signal);
      yield* memory?.note("validation", this.#session.peakBytes) ?? [];
      this.#session.peakBytes = this.#session.allocatedBytes;
    }
    this.#step = new TrainingStep(this.#session, config, recording, buckets);
  }

  async #optimizerStep(): Promise<StepEvent | SkippedEvent> {
    const { communicator, device } = this.prepared;
    const started = performance.now();
    const { waited } = communicator;
    const { spent } = this.#batches;
    const learningRate = stepRate(this.prepared.config, this.#applied, this.#totalSteps);
    this.#step.begin();
    const window = this.#window(this.#done);
    const block = this.#exchange.begin(window.length);
    const micros: NamedMicroBatch[] = [];
    for (const micro of window.slice(block.begin, block.end)) {
      const batch = this.#batches.take(micro);
      micros.push({ clips: micro.items.map(({ index }) => this.#source.samples[index]!.item.name), batch });
      await this.#step.micro(batch, this.#scale.value);
      await device.span("exchange", 0, () => this.#exchange.afterMicro());
    }
    const squares = await device.span("exchange", 0, () => this.#exchange.finish());
    const scale = this.#scale.value;
    const own = await this.#step.update(
      learningRate,
      this.#applied + 1,
      scale,
      squares,
      () => this.#makeAhead(block.begin),
    );
    await device.span("exchange", 0, () => this.#exchange.afterUpdate());
    const ownFigures = {
      losses: own.losses,
      begin: block.begin,
      total: window.length,
      seconds: (performance.now() - started - (communicator.waited - waited)) / 1000,
      gpuBytes: this.#session.allocatedBytes,
    };
    const { losses, ranks } = await device.span("exchange", 0, () => gatherFigures(communicator, ownFigures));
    // The first step compiles kernels: it says nothing about the next.
    communicator.endStep(this.#steps++ === 0 ? 0 : 1000 * Math.max(...ranks.map(({ seconds }) => seconds)));
    this.#done++;
    if (own.skipped) {
      const overflow = this.#scale.canShrink && losses.every(Number.isFinite);
      this.#scale.update(true);
      return await this.#skips.skipped(this.#step, { step: this.#done, losses, micros, scale, overflow });
    }
    this.#scale.update(false);
    this.#applied++;
    this.#skips.made();
    this.#parts = {
      clips: micros.flatMap(({ clips }) => clips),
      reading: (this.#batches.spent - spent) / 1000,
      waiting: (communicator.waited - waited) / 1000,
    };
    return {
      type: "step",
      step: this.#done,
      totalSteps: this.#totalSteps,
      loss: losses.reduce((sum, loss) => sum + loss, 0) / losses.length,
      gradNorm: own.gradientNorm,
      learningRate,
      ...this.#work.of(micros.map(({ batch }) => batch.bucket ?? 0), (performance.now() - started) / 1000),
      epoch: (window.at(-1)!.number + 1) / this.#sampler.microStepsPerEpoch,
      gpuBytes: this.#session.allocatedBytes,
      ...(communicator.size > 1 ? { ranks } : {}),
      ...(this.#scale.enabled ? { lossScale: scale } : {}),
    };
  }

  /** The micro-batches of the step after `done` ones, over all ranks; a range test repeats those of the first. */
  #window(done: number): MicroStep[] {
    const window: MicroStep[] = [];
    const step = this.prepared.config.lr_range_test ? 0 : done;
    for (let number = this.#sampler.firstMicroStep(step);; number++) {
      const micro = this.#sampler.microStep(number);
      window.push(micro);
      if (micro.sync) return window;
    }
  }

  /** Makes micro-batch `place` of the next step, if there is one. */
  #makeAhead(place: number): void {
    const micro = this.#done + 1 < this.#totalSteps ? this.#window(this.#done + 1)[place] : undefined;
    if (micro !== undefined) this.#batches.makeAhead(micro);
  }

  #savedRun(): SavedRun {
    return { ...this.prepared, session: this.#session, optimizer: this.#step.recording.optimizer };
  }

  /** Makes the output folder anew where somebody has removed it, so that nothing more is lost. */
  *#renewed(): Generator<WarningEvent> {
    const { config, output } = this.prepared;
    if (output?.renew() !== true) return;
    yield { type: "warning", message: `"${config.output_dir}" was removed with all it held: it is made anew` };
  }

  /** Saves, with everything told before on disk; returns the checkpoint, undefined when the run goes on without it. */
  async *#saved(
    records: RunRecords | undefined,
    { isLast = false }: { readonly isLast?: boolean } = {},
  ): AsyncGenerator<TrainEvent, string | undefined> {
    yield* this.#renewed();
    yield* await records?.sync() ?? [];
    const started = performance.now();
    const saved = await this.#save();
    if (saved instanceof Error) {
      if (isLast) throw saved;
      yield this.#saves.failed(this.#done, saved);
      return undefined;
    }
    this.#saves.succeeded();
    yield { type: "saved", step: this.#done, ...saved, seconds: (performance.now() - started) / 1000 };
    return saved.path;
  }

  #save(): Promise<SavedCheckpoint | Error> {
    return saveRun(this.#savedRun(), {
      step: this.#done,
      applied: this.#applied,
      lossScale: { value: this.#scale.value, goodSteps: this.#scale.goodSteps },
    });
  }

  [Symbol.dispose](): void {
    this.#step[Symbol.dispose]();
    this.#session[Symbol.dispose]();
  }
}
