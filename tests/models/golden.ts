/** Reads golden files and tiny pipelines for the model tests. */
import { readFileSync } from "node:fs";
import { openSafetensors, type SafetensorsFile } from "../../lib/io/safetensors/safetensors.ts";
import { openShards } from "../../lib/io/safetensors/shards.ts";
import type { TensorSource } from "../../lib/io/safetensors/safetensors.ts";
import { parseTransformerConfig, type TransformerConfig } from "../../lib/models/transformer/config.ts";

/** Tensors of a golden file by name, widened to f32, with their shapes. */
export class Golden implements Disposable {
  readonly #source: SafetensorsFile;

  constructor(path: string) {
    this.#source = openSafetensors(path);
  }

  get names(): string[] {
    return [...this.#source.tensors.keys()];
  }

  /** How the case was made. */
  get config(): Readonly<Record<string, unknown>> {
    return JSON.parse(this.#source.metadata.get("fixture")!).config;
  }

  has(name: string): boolean {
    return this.#source.tensors.has(name);
  }

  shape(name: string): readonly number[] {
    return this.#source.tensors.get(name)!.shape;
  }

  dtype(name: string): string {
    return this.#source.tensors.get(name)!.dtype;
  }

  f32(name: string): Float32Array<ArrayBuffer> {
    return this.#source.readF32(name);
  }

  /** Integers stored as I64 or I32. */
  integers(name: string): number[] {
    const bytes = this.#source.readBytes(name).slice();
    if (this.dtype(name) === "I64") return [...new BigInt64Array(bytes.buffer)].map(Number);
    return [...new Int32Array(bytes.buffer)];
  }

  /** f64 values without rounding. */
  f64(name: string): Float64Array {
    if (this.dtype(name) !== "F64") return Float64Array.from(this.f32(name));
    return new Float64Array(this.#source.readBytes(name).slice().buffer);
  }

  [Symbol.dispose](): void {
    this.#source[Symbol.dispose]();
  }
}

/** Config and weights of one tiny pipeline's transformer. */
export function tinyTransformer(folder: string, variant: string): { config: TransformerConfig; source: TensorSource } {
  const path = `${folder}/pipelines/tiny-${variant}/transformer`;
  const config = parseTransformerConfig(JSON.parse(readFileSync(`${path}/config.json`, "utf8")), `${path}/config.json`);
  return { config, source: openShards(path, "diffusion_pytorch_model") };
}
