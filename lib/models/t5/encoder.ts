/**
 * The T5 v1.1 text encoder of CogVideoX: token ids to embeddings, its weights streamed through the device layer by
 * layer.
 */
import { join } from "node:path";
import { Executable } from "../../gpu/executable.ts";
import type { Session } from "../../gpu/session.ts";
import { decodeF32, floatBytes, floatType, storageOf, type StorageType } from "../../io/safetensors/half.ts";
import { readJsonObject } from "../../io/json_file.ts";
import type { TensorSource } from "../../io/safetensors/safetensors.ts";
import { openShards } from "../../io/safetensors/shards.ts";
import type { Tensor } from "../../plan/tensor.ts";
import {
  BIAS_TABLE,
  EMBEDDINGS,
  FINAL_NORM,
  parseT5Config,
  relativeBias,
  type T5Config,
  t5ParameterShapes,
} from "./config.ts";
import { promptsAtOnce, recordT5, type T5Recording } from "./graph.ts";
import { checkTensors, uploadTensors } from "../tensors/weights.ts";

const FOLDER_HINT = "give the path of a CogVideoX model folder in the diffusers layout";

/** Choices of {@linkcode openTextEncoder}. */
export interface TextEncoderOptions {
  /** Storage of the matrices on the device; by default as in the file. Activations are f32. */
  readonly dtype?: StorageType;
  /** Most prompts that share one pass of the weights, unless their feed-forward exceeds what every device binds. */
  readonly batch?: number;
}

/** Called behind every block, for progress; `hidden` downloads the residual stream [prompts, tokens, d_model]. */
export type OnBlock = (block: number, hidden: () => Promise<Float32Array>) => void | Promise<void>;

/** An opened text encoder. Between calls nothing of it is on the device; dispose it to close its files. */
export class T5Encoder implements Disposable {
  readonly #session: Session;
  readonly #source: TensorSource;
  readonly #embedding: string;
  readonly #dtype: StorageType;
  readonly #batch: number | undefined;

  /** Use {@linkcode openTextEncoder}. */
  constructor(session: Session, readonly config: T5Config, source: TensorSource, options: TextEncoderOptions) {
    this.#session = session;
    this.#source = source;
    this.#embedding = EMBEDDINGS.find((name) => source.tensors.has(name))!;
    const stored = source.tensors.get("encoder.block.0.layer.0.SelfAttention.q.weight")!.dtype;
    this.#dtype = options.dtype ?? storageOf(stored);
    this.#batch = options.batch;
  }

  /**
   * Embeddings [tokens, d_model] of each prompt, f32. Every token takes part, padding too: CogVideoX passes no mask.
   *
   * @param prompts ids of equally many tokens each.
   * @throws {RangeError} when the prompts differ in length or hold ids outside the vocabulary.
   */
  async encode(prompts: readonly ArrayLike<number>[], onBlock?: OnBlock): Promise<Float32Array<ArrayBuffer>[]> {
    this.#check(prompts);
    if (prompts.length === 0) return [];
    const tokens = prompts[0]!.length;
    const batch = promptsAtOnce(this.config, tokens, this.#batch);
    const results: Float32Array<ArrayBuffer>[] = [];
    for (let from = 0; from < prompts.length; from += batch) {
      results.push(...await this.#encodeBatch(prompts.slice(from, from + batch), tokens, onBlock));
    }
    return results;
  }

  #check(prompts: readonly ArrayLike<number>[]): void {
    const { vocab_size } = this.config;
    const problems: string[] = [];
    prompts.forEach((ids, i) => {
      if (ids.length !== prompts[0]!.length || ids.length === 0) {
        problems.push(`prompt ${i} has ${ids.length} tokens, prompt 0 has ${prompts[0]!.length}`);
      }
      const bad = Array.from(ids).find((id) => !Number.isInteger(id) || id < 0 || id >= vocab_size);
      if (bad !== undefined) problems.push(`prompt ${i} holds id ${bad}: the vocabulary has ${vocab_size}`);
    });
    if (problems.length > 0) throw new RangeError(`Cannot encode prompts: ${problems.join("; ")}`);
  }

  async #encodeBatch(
    prompts: readonly ArrayLike<number>[],
    tokens: number,
    onBlock: OnBlock | undefined,
  ): Promise<Float32Array<ArrayBuffer>[]> {
    const session = this.#session;
    const { target } = session.device;
    const { limits } = session;
    const options = { prompts: prompts.length, tokens, dtype: this.#dtype, target, limits };
    const recording = recordT5(this.config, options);
    const residents: Tensor[] = [...recording.weights.values(), recording.finalNorm, recording.bias];
    residents.push(recording.hidden, recording.output);
    try {
      await this.#writeInputs(prompts, tokens, recording);
      await this.#runBlocks(recording, onBlock);
      const all = await session.readF32(recording.output);
      const size = tokens * this.config.d_model;
      return prompts.map((_, i) => all.slice(i * size, (i + 1) * size));
    } finally {
      for (const tensor of residents) session.free(tensor);
    }
  }

  async #writeInputs(prompts: readonly ArrayLike<number>[], tokens: number, recording: T5Recording): Promise<void> {
    const { num_heads } = this.config;
    const table = this.#source.readF32(BIAS_TABLE);
    this.#session.write(recording.bias, relativeBias(table, num_heads, tokens, recording.bias.width));
    this.#session.write(recording.hidden, this.#embed(prompts));
    await uploadTensors(this.#session, this.#source, new Map([[FINAL_NORM, recording.finalNorm]]));
  }

  /** Looked up on the host: a prompt needs 226 rows of a table of 32,128. */
  #embed(prompts: readonly ArrayLike<number>[]): Float32Array<ArrayBuffer> {
    const { d_model } = this.config;
    const { dtype } = this.#source.tensors.get(this.#embedding)!;
    const stored = floatType(dtype)!;
    const rowBytes = d_model * floatBytes(stored);
    const rows = new Map<number, Float32Array>();
    const hidden = new Float32Array(prompts.length * prompts[0]!.length * d_model);
    prompts.flatMap((ids) => Array.from(ids)).forEach((id, position) => {
      let row = rows.get(id);
      if (row === undefined) {
        row = decodeF32(this.#source.readBytes(this.#embedding, id * rowBytes, (id + 1) * rowBytes), stored);
        rows.set(id, row);
      }
      hidden.set(row, position * d_model);
    });
    return hidden;
  }

  async #runBlocks(recording: T5Recording, onBlock: OnBlock | undefined): Promise<void> {
    const session = this.#session;
    using block = new Executable(session, recording.block);
    using final = new Executable(session, recording.final);
    for (let i = 0; i < this.config.num_layers; i++) {
      // Uploads and runs are executed in order, so a layer's weights replace the last one's only after its run.
      const layer = [...recording.weights].map(([name, tensor]) => [`encoder.block.${i}.${name}`, tensor] as const);
      await uploadTensors(session, this.#source, new Map(layer));
      block.run();
      await onBlock?.(i, () => session.readF32(recording.hidden));
    }
    final.run();
  }

  [Symbol.dispose](): void {
    this.#source[Symbol.dispose]();
  }
}

/** Config and weights of a text encoder, checked against each other. Dispose it to close its files. */
export interface TextEncoderWeights extends Disposable {
  readonly config: T5Config;
  readonly source: TensorSource;
}

/**
 * Opens `text_encoder/config.json` and `model.safetensors` (sharded or not) of a model folder; reads no weight.
 *
 * @throws {UserError} naming every value of the config and every tensor that is missing, unknown or of another shape.
 */
export function openTextEncoderWeights(modelFolder: string): TextEncoderWeights {
  const folder = join(modelFolder, "text_encoder");
  const configFile = join(folder, "config.json");
  const config = parseT5Config(readJsonObject(configFile, FOLDER_HINT), configFile);
  const source = openShards(folder, "model");
  try {
    const shapes = t5ParameterShapes(config);
    // Tied tensors are stored under either name, or under both.
    const found = EMBEDDINGS.filter((name) => source.tensors.has(name));
    for (const name of found.length > 0 ? found : EMBEDDINGS.slice(0, 1)) {
      shapes.set(name, [config.vocab_size, config.d_model]);
    }
    checkTensors(source, shapes, folder);
  } catch (error) {
    source[Symbol.dispose]();
    throw error;
  }
  return { config, source, [Symbol.dispose]: () => source[Symbol.dispose]() };
}

/**
 * Opens the text encoder of a model folder in the diffusers layout.
 *
 * @throws {UserError} as {@linkcode openTextEncoderWeights} does.
 */
export function openTextEncoder(session: Session, modelFolder: string, options: TextEncoderOptions = {}): T5Encoder {
  const { config, source } = openTextEncoderWeights(modelFolder);
  return new T5Encoder(session, config, source, options);
}
