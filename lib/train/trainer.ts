/**
 * What must be true before the first step: config, model, data, GPU, memory and output folder; then the loop takes
 * over.
 */
import { createSingle } from "../comm/exchange/single.ts";
import { type Communicator, longPhase } from "../comm/exchange/communicator.ts";
import { gatherValues } from "../comm/exchange/gather.ts";
import { checkPlacement } from "../comm/gpus/placement.ts";
import { requireTrainable, type TrainConfig } from "../config/config.ts";
import { isDrawn } from "../config/derive.ts";
import { requireHostMemory } from "../forecast/require_host_memory.ts";
import { requireMemory } from "../forecast/require_memory.ts";
import { openDevice } from "../gpu/device.ts";
import { selfTest } from "../gpu/self_test.ts";
import { NonFiniteError } from "../io/safetensors/finite.ts";
import { findModelPath, localModelPath, resolveModelPath } from "../models/folder/hub.ts";
import { describeUnused } from "../models/folder/unused_tensors.ts";
import { startNotes, storedType } from "../step/model_state.ts";
import { roundsProducts } from "../step/run_description.ts";
import { checkpointOf, openOutputFolder } from "./checkpoint/output_folder.ts";
import { hashInputs, requireSameInputs } from "./checkpoint/run_inputs.ts";
import { machineChanges, machineOf } from "./checkpoint/run_machine.ts";
import { brokenState } from "./checks/broken_state.ts";
import { checkInputs, preflight, preflightDrawn, type Ready } from "./checks/preflight.ts";
import { requireSameRun } from "./checks/same_run.ts";
import { Validation } from "./checks/validation.ts";
import { fillDataCache, type PeakListener } from "./data/fill_cache.ts";
import { clipSheets } from "./report/clip_sheets.ts";
import type { TrainEvent } from "./report/events.ts";
import { type MemoryPhase, PhaseMemory } from "./report/phase_memory.ts";
import { RunRecords } from "./report/run_records.ts";
import { peaksOf } from "../tune/peaks.ts";
import { chooseKernels } from "./kernels.ts";
import { StepProfiler } from "./profile/step_profiler.ts";
import { TrainingLoop } from "./training_loop.ts";

/** Options of {@linkcode train}. */
export interface TrainOptions {
  /** Aborting finishes the step, saves and ends the run. */
  readonly signal?: AbortSignal;
  /** Aborted before `signal`, it makes the run end without saving. */
  readonly abandon?: AbortSignal;
}

/**
 * Trains as `config` says, on one GPU, and tells what happens. The run holds a lock on its output folder; whatever ends
 * it, the last committed checkpoint is whole.
 *
 * @throws {UserError} for every mistake in config, data or model, before any weight is loaded.
 * @example
 * ```ts
 * import { parseConfig, train } from "@cogtune/cogtune";
 *
 * const config = parseConfig("model_path: examples/tiny-2b\nmodel_name: cogvideox-t2v\ndata_root: examples/clips", {
 *   overrides: { train_resolution: "9x32x48", rank: 4, train_steps: 1, output_dir: Deno.makeTempDirSync() },
 * });
 * for await (const event of train(config)) {
 *   if (event.type === "step" && !(event.loss > 0)) throw new Error("a loss is positive");
 * }
 * ```
 */
export function train(config: TrainConfig, options: TrainOptions = {}): AsyncGenerator<TrainEvent> {
  return trainAsRank(config, createSingle(), options);
}

/**
 * {@linkcode train} as one of the processes that train together: every one calls this, and rank 0 tells what happens.
 */
export async function* trainAsRank(
  config: TrainConfig,
  communicator: Communicator,
  options: TrainOptions = {},
): AsyncGenerator<TrainEvent> {
  const { signal } = options;
  const isFirst = communicator.rank === 0;
  requireTrainable(config);
  const ready = isDrawn(config) ? undefined : yield* readInputs(config, communicator.rank, signal);
  using _entries = ready?.data;
  using heldOut = ready?.heldOut;
  const { model, run, data } = ready ?? await preflightDrawn(config, communicator.rank);
  await requireSameRun(communicator, config, data.samples);
  const unused = ready === undefined ? [] : describeUnused(ready.model);
  const warnings = [...ready?.warnings ?? [], ...data.warnings, ...unused, ...startNotes(config)];
  if (config.dry_run) {
    await checkpointOf(config);
    for (const message of warnings) yield { type: "warning", message };
    return;
  }
  // Before the output folder is touched: a machine without a GPU leaves no trace of the attempt.
  using device = await openDevice({ engine: config.engine, mixed: roundsProducts(config) });
  await checkPlacement(communicator, { deadline: longPhase });
  await selfTest(device);
  const located = ready === undefined ? config : { ...config, model_path: ready.model.path };
  const hostBytes = requireMemory(located, storedType(model), device);
  await requireHostMemory(communicator, hostBytes, { deadline: longPhase });
  using output = isFirst ? await openOutputFolder(config) : undefined;
  // The first rank writes checkpoints; the others read the same files as it does.
  const inputs = isFirst && ready !== undefined ? await hashInputs(config, ready.model, ready.data) : undefined;
  if (output?.checkpoint !== undefined && inputs !== undefined) {
    warnings.push(...requireSameInputs(output.checkpoint, inputs, ready!.model));
  }
  const machine = machineOf(device.adapter);
  if (output?.checkpoint !== undefined) warnings.push(...machineChanges(output.checkpoint, machine));
  const told: TrainEvent[] = [];
  const tell = function* (...events: readonly TrainEvent[]) {
    told.push(...events);
    yield* events;
  };
  for (const message of output?.cleared ?? []) yield* tell({ type: "status", message });
  for (const message of [...output?.warnings ?? [], ...warnings]) yield* tell({ type: "warning", message });
  const fullest = new Map<MemoryPhase, number>();
  const onPeak: PeakListener = (phase, bytes) => void fullest.set(phase, Math.max(bytes, fullest.get(phase) ?? 0));
  if (ready !== undefined) {
    const fill = { signal, share: communicator, onPeak };
    yield* fillDataCache(device, config, ready.model, ready.data, fill);
    if (heldOut !== undefined) yield* fillDataCache(device, heldOut.config, ready.model, heldOut.data, fill);
  }
  const validation = ready && await Validation.prepare(device, config, ready.model, communicator);
  const notes = await gatherValues(communicator, validation?.own.notes ?? [], { deadline: longPhase });
  for (const message of notes.flat()) yield* tell({ type: "warning", message: `validation: ${message}` });
  const kernels = yield* chooseKernels({ device, config, run, communicator, checkpoint: output?.checkpoint });
  // What a software driver reaches says nothing of a GPU, so only a profile asks for it.
  const asksPeaks = isFirst && (config.profile > 0 || !device.adapter.software);
  const { peaks, problems } = asksPeaks ? await peaksOf(device) : { peaks: undefined, problems: [] };
  for (const message of problems) yield* tell({ type: "warning", message });
  const profiler = config.profile > 0 && isFirst
    ? new StepProfiler({ device, config, peaks, tuned: kernels !== undefined })
    : undefined;
  const memory = isFirst ? new PhaseMemory(located, storedType(model), device) : undefined;
  for (const [phase, bytes] of fullest) yield* tell(...memory?.note(phase, bytes) ?? []);
  const prepared = {
    device,
    config,
    model,
    run,
    data,
    validation,
    heldOut,
    communicator,
    output,
    kernels,
    peaks,
    profiler,
    memory,
    inputs,
    machine,
  };
  using loop = new TrainingLoop(prepared);
  // The other ranks look after that exchange, when the first has put the folder in order.
  const start = loop.start(isFirst ? output?.checkpoint : (await checkpointOf(config))?.path);
  for await (const event of start) yield* tell(event);
  const clips = isFirst && ready !== undefined ? await clipSheets(ready.data.samples) : [];
  const dataset = { clips, samples: data.samples.length };
  using records = isFirst ? new RunRecords(config, loop.step, { told, dataset }) : undefined;
  try {
    for await (const event of config.lr_range_test ? loop.rangeTest(signal) : loop.run(options, records)) {
      const problems = await records?.write(event) ?? [];
      yield event;
      yield* problems;
    }
  } catch (error) {
    throw error instanceof NonFiniteError ? brokenState(config.output_dir, loop.step, error.summary) : error;
  }
}

/** Brings the model here and checks it with the data. */
async function* readInputs(
  config: TrainConfig,
  rank: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<TrainEvent, Ready> {
  const wanted = config.model_path!;
  // A mistake in the lists is not told after a download of hours.
  if (findModelPath(wanted) === undefined) await checkInputs(config);
  const path = config.dry_run ? await localModelPath(wanted) : yield* resolveModelPath(wanted, { signal });
  return await preflight(config, path, rank);
}
