/** Reads golden files for the model tests. */
import { openSafetensors, type SafetensorsFile } from "../../lib/io/safetensors/safetensors.ts";

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
