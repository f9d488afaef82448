/** What trains: the model's tensors on the GPU, how they start, and how they are written for other programs. */
import { join } from "node:path";
import { bytesOf } from "../../kernels/core/kernel.ts";
import { convert } from "../../kernels/rows/flat.ts";
import { shardOf } from "../comm/exchange/arrays.ts";
import { RandomStream } from "../data/random/random.ts";
import { Executable } from "../gpu/executable.ts";
import type { Session } from "../gpu/session.ts";
import { encodeF32, storageOf, type StorageType } from "../io/safetensors/half.ts";
import { openShards } from "../io/safetensors/shards.ts";
import { initialLora, type Lora, type LoraValues, resizeMatrix } from "../models/lora/adapters.ts";
import { writeLora } from "../models/lora/file.ts";
import { fitLora } from "../models/lora/fit.ts";
import { loraNotes } from "../models/lora/notes.ts";
import { readLora } from "../models/lora/read.ts";
import { startFromFile } from "../models/lora/start.ts";
import type { Trainables } from "../models/tensors/trainables.ts";
import { openTransformer, type TransformerTensor, writeTransformer } from "../models/transformer/file.ts";
import type { ModelConfigs, ModelFolder } from "../models/folder/model_folder.ts";
import { rowNorms } from "../ops/dora.ts";
import type { Parameters } from "../models/transformer/parameters.ts";
import { positionTableShape, TRANSFORMER_CLASS } from "../models/transformer/config.ts";
import { nativePositions, uploadTables } from "../models/transformer/inputs.ts";
import { checkTensors, uploadTensors } from "../models/tensors/weights.ts";
import { Plan } from "../plan/plan.ts";
import { finish } from "../plan/recording.ts";
import type { Tensor } from "../plan/tensor.ts";
import { averagedTrainables } from "../optim/average.ts";
import type { TrainConfig } from "../config/config.ts";
import { type RunDescription, workingType } from "./run_description.ts";
import { drawWeights } from "./random_weights.ts";
import { microRecordings, type StepRecording } from "./training_step.ts";

const WEIGHTS = "diffusion_pytorch_model";

/** Checks the transformer's weights against its config; no byte of them is read. */
export function checkTransformer(model: ModelFolder, run: RunDescription): void {
  using source = openShards(join(model.path, "transformer"), WEIGHTS);
  const table = positionTableShape(model.transformer);
  const shapes = new Map(run.shapes);
  if (table !== undefined) shapes.set(table.name, table.shape);
  checkTensors(source, shapes, join(model.path, "transformer"));
}

/** Storage of the checkpoint's matrices. */
export function storedType(model: ModelConfigs): StorageType {
  if (model.path === undefined) return "f32";
  using source = openShards(join(model.path, "transformer"), WEIGHTS);
  return storageOf(source.tensors.get("proj_out.weight")?.dtype ?? "F32");
}

/**
 * Uploads frozen or initial weights, the tables of the inputs, and starting adapters. Returns warnings.
 *
 * @throws {UserErrors} when weights are NaN or infinite, of which every step would be too.
 */
export async function uploadModel(
  session: Session,
  config: TrainConfig,
  model: ModelConfigs,
  run: RunDescription,
  recording: StepRecording,
): Promise<string[]> {
  using source = model.path === undefined ? undefined : openShards(join(model.path, "transformer"), WEIGHTS);
  if (config.random_weights || source === undefined) await drawWeights(session, config.seed, run.uploads);
  else await uploadTensors(session, source, run.uploads, { finiteIn: join(model.path!, "transformer") });
  if (run.lora !== undefined) {
    const values = startingValues(config, run.lora, model);
    uploadLora(session, run.lora, values);
    if (config.use_dora) await startMagnitudes(session, run.parameters, values);
  }
  const table = positionTableShape(model.transformer);
  const learned = table === undefined ? undefined : source?.readF32(table.name);
  const tables = microRecordings(recording).map(({ shape, inputs }) =>
    uploadTables(session, model.transformer, shape, inputs, { learned })
  );
  return tables.some(({ fallback }) => fallback)
    ? ["the learned positions of this model fit another number of frames: sines take their place, as in diffusers"]
    : [];
}

/**
 * What adapters start as: drawn from the seed, or taken from `init_lora` unless a checkpoint is continued.
 *
 * @throws {UserError} when the file is no LoRA of this model, or does not fit into the adapters.
 */
export function startingValues(
  { seed, init_lora, resume_from_checkpoint }: TrainConfig,
  lora: Lora,
  model: ModelConfigs,
): LoraValues {
  let sample = 0;
  const initial = initialLora(lora, (count) => {
    const stream = new RandomStream({ seed, purpose: "weights", step: 0, sample: sample++ });
    return Float64Array.from({ length: count }, () => stream.uniform());
  });
  if (init_lora === undefined || resume_from_checkpoint !== undefined) return initial;
  const file = readLora(init_lora);
  fitLora(file, model.transformer, model.path ?? "the model that the config names");
  return startFromFile(lora, file, initial);
}

/** What a user should know of the file that adapters start from. */
export function startNotes({ init_lora, resume_from_checkpoint }: TrainConfig): string[] {
  return init_lora === undefined || resume_from_checkpoint !== undefined ? [] : loraNotes(readLora(init_lora));
}

function uploadLora(session: Session, lora: Lora, values: LoraValues): void {
  for (const [name, { master, trueShape, shape }] of lora.trainables.byName) {
    const own = values.get(name);
    if (own !== undefined) session.write(master, resizeMatrix(own, trueShape, shape));
  }
}

/**
 * Starts decomposed adapters with the norms that the rows of W + s B A have, so that they change nothing yet, unless a
 * file has brought norms of its own.
 */
async function startMagnitudes(session: Session, parameters: Parameters, values: LoraValues): Promise<void> {
  const plan = new Plan({ target: session.device.target });
  for (const [layer, { magnitude, ...update }] of parameters.adapters) {
    if (values.has(`${layer}.lora_magnitude_vector`)) continue;
    rowNorms(plan, parameters.get(`${layer}.weight`), update, magnitude!);
    plan.release();
  }
  if (plan.steps.length === 0) return;
  using executable = new Executable(session, finish(plan, session.limits));
  await executable.run();
}

/** Downloads the adapters as files hold them. */
export async function downloadLora(session: Session, lora: Lora): Promise<LoraValues> {
  const entries = [...lora.trainables.byName.values()];
  const arrays = await session.read(entries.map(({ master }) => master));
  return new Map(entries.map(({ name, shape, trueShape }, i) => {
    return [name, resizeMatrix(new Float32Array(arrays[i]!), shape, trueShape)];
  }));
}

/** Cuts this rank's shard out of the uploaded masters, which are then forgotten. */
export async function startShard(session: Session, { shard, trainables }: RunDescription): Promise<void> {
  if (shard === undefined) return;
  let own = 0;
  for (const { values, gradients } of trainables.buckets) {
    const { begin, end } = shardOf(gradients.size, shard.rank, shard.size);
    if (begin < end) {
      const masters = session.host.bytes(values).subarray(4 * begin, 4 * end);
      session.write(shard.buckets[own++]!.values, masters);
      await session.flush();
    }
    session.free(values);
  }
}

/** Makes the working copies of f32 masters, after masters were uploaded or restored. */
export async function refreshCopies(session: Session, run: RunDescription): Promise<void> {
  const { target } = session.device;
  const plan = new Plan({ target });
  for (const { values, copy } of run.updated) {
    if (copy === undefined) continue;
    plan.launch(convert({ x: "f32", y: copy.dtype }, { elements: values.size }), [values, copy], [copy]);
    plan.release();
  }
  if (plan.steps.length === 0) return;
  using executable = new Executable(session, finish(plan, session.limits));
  await executable.run();
}

/**
 * Writes what other programs load: adapters as one LoRA file with alpha in it, or all weights as a diffusers
 * `transformer/` folder with config and index. Averaged weights, when there are some, lie beside them under names that
 * end in `_ema`.
 *
 * @returns the adapters that were written, those that train.
 */
export async function writeModel(
  session: Session,
  config: TrainConfig,
  model: ModelConfigs,
  run: RunDescription,
  averages: readonly Tensor[],
  folder: string,
): Promise<LoraValues | undefined> {
  let trained: LoraValues | undefined;
  const versions = [{ suffix: "", trainables: run.trainables }];
  if (averages.length > 0) versions.push({ suffix: "_ema", trainables: averagedTrainables(run.trainables, averages) });
  for (const { suffix, trainables } of versions) {
    if (run.lora !== undefined) {
      const values = await downloadLora(session, { ...run.lora, trainables });
      trained ??= values;
      const path = join(folder, `pytorch_lora_weights${suffix}.safetensors`);
      await writeLora(path, values, { config: run.lora.config, base: model.transformer });
    } else {
      await writeAllWeights(session, config, model, run, trainables, join(folder, `transformer${suffix}`));
    }
  }
  return trained;
}

async function writeAllWeights(
  session: Session,
  config: TrainConfig,
  { path, transformer }: ModelConfigs,
  run: RunDescription,
  trainables: Trainables,
  folder: string,
): Promise<void> {
  using base = path === undefined ? undefined : openTransformer(path);
  const bucketOf = new Map(run.trainables.buckets.map(({ values }, i) => [values.owner, i]));
  const tensors: TransformerTensor[] = [...trainables.byName.values()].map(({ name, master, working }) => {
    // The masters of other ranks are not here, but the gathered working values are what they round to.
    const gathered = run.shard?.gathered[bucketOf.get(master.owner)!];
    const source = gathered === undefined
      ? master
      : gathered.window(name, working.byteOffset / bytesOf(working.dtype), working.shape);
    return {
      name,
      shape: run.shapes.get(name)!,
      dtype: source.dtype as StorageType,
      data: async function* () {
        yield new Uint8Array((await session.read([source]))[0]!);
      },
    };
  });
  const table = positionTableShape(transformer);
  if (table !== undefined && base !== undefined) {
    const data = () => [encodeF32(base.source.readF32(table.name), "f32")];
    tensors.push({ ...table, dtype: "f32", data });
  }
  if (table !== undefined && base === undefined) {
    const data = () => [new Uint8Array(nativePositions(transformer).buffer)];
    tensors.push({ ...table, dtype: "f32", data });
  }
  const configJson = base?.configJson ?? JSON.stringify({ _class_name: TRANSFORMER_CLASS, ...transformer }, null, 2);
  await writeTransformer(folder, configJson, tensors, { dtype: workingType(config) as StorageType });
}
