/** Reads the optimizer trajectories of the reference set. */
import type { SafetensorsFile } from "../../../lib/io/safetensors/safetensors.ts";
import { valuesAt } from "../../optim/stored.ts";

const NAMES = ["matrix", "vector", "lora_b", "conv"];

/** Values of all four tensors (at a step), one after the other, padded with zeros to a multiple of four. */
export function flatTensors(file: SafetensorsFile, prefix: string, step?: number): Float32Array<ArrayBuffer> {
  const values = NAMES.map((name) => `${prefix}.${name}`)
    .flatMap((name) => [...(step === undefined ? file.readF32(name) : valuesAt(file, name, step))]);
  while (values.length % 4 !== 0) values.push(0);
  return Float32Array.from(values);
}
