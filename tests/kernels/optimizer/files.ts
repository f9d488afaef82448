/** Reads the optimizer trajectories of the reference set. */
import type { SafetensorsFile } from "../../../lib/io/safetensors/safetensors.ts";

const NAMES = ["matrix", "vector", "lora_b", "conv"];

/** Values of all four tensors (of one of 20 steps), one after the other, padded with zeros to a multiple of four. */
export function flatTensors(file: SafetensorsFile, prefix: string, step?: number): Float32Array<ArrayBuffer> {
  const values = NAMES.flatMap((name) => {
    const all = file.readF32(`${prefix}.${name}`);
    const size = all.length / 20;
    return [...(step === undefined ? all : all.subarray(step * size, (step + 1) * size))];
  });
  while (values.length % 4 !== 0) values.push(0);
  return Float32Array.from(values);
}
