/** Checkpoint tensors into GPU memory: names and shapes are checked in full before any byte is uploaded. */
import { UserErrors } from "../../errors.ts";
import type { Session } from "../../gpu/session.ts";
import { codesPerWord } from "../../../kernels/matrix/dequantise.ts";
import { decodeF32, encodeF32, storageBytes, type StorageType } from "../../io/safetensors/half.ts";
import type { TensorSource } from "../../io/safetensors/safetensors.ts";
import type { Tensor } from "../../plan/tensor.ts";
import { quantise } from "./quantise.ts";

/** Bytes read from the file at a time; a model is never held in host memory. */
const BLOCK_BYTES = 16 * 2 ** 20;

const STORED: Readonly<Record<string, StorageType>> = { F32: "f32", F16: "f16", BF16: "bf16" };

/** What a checkpoint may hold besides the tensors a model asks for. */
export interface CheckOptions {
  /** Where the tensors come from, for messages. */
  readonly where: string;
  /** Names that may be present without being read. */
  readonly ignored?: readonly string[];
}

/**
 * Checks that `source` holds exactly the named shapes in a floating-point type.
 *
 * @throws {UserErrors} listing every missing, extra or mis-shaped tensor.
 */
export function checkTensors(
  source: TensorSource,
  shapes: ReadonlyMap<string, readonly number[]>,
  { where, ignored = [] }: CheckOptions,
): void {
  const problems: string[] = [];
  for (const [name, shape] of shapes) {
    const info = source.tensors.get(name);
    if (info === undefined) problems.push(`missing "${name}" [${shape}]`);
    else if (`${info.shape}` !== `${shape}`) problems.push(`"${name}" has shape [${info.shape}]: expected [${shape}]`);
    else if (!(info.dtype in STORED)) problems.push(`"${name}" is stored as ${info.dtype}: expected F32, F16 or BF16`);
  }
  for (const name of source.tensors.keys()) {
    if (!shapes.has(name) && !ignored.includes(name)) problems.push(`unexpected "${name}"`);
  }
  if (problems.length > 0) {
    const shown = problems.length > 12 ? [...problems.slice(0, 12), `and ${problems.length - 12} more`] : problems;
    throw new UserErrors(
      `Cannot use the weights in ${where}`,
      shown,
      "the config.json beside the weights must belong to them; point model_path at the original diffusers folder",
    );
  }
}

/**
 * Uploads checkpoint tensors to the resident tensors of the same names, converting to their storage types on the way.
 */
export async function uploadTensors(
  session: Session,
  source: TensorSource,
  tensors: ReadonlyMap<string, Tensor>,
): Promise<void> {
  for (const [name, tensor] of tensors) {
    const stored = STORED[source.tensors.get(name)!.dtype]!;
    const elementBytes = stored === "f32" ? 4 : 2;
    const target = tensor.dtype as StorageType;
    // Parts of a quantised tensor hold whole groups of four scales.
    const unit = 4 * (tensor.quantised?.block ?? 1);
    const step = Math.max(1, Math.floor(BLOCK_BYTES / elementBytes / unit)) * unit;
    for (let from = 0; from < tensor.size; from += step) {
      const to = Math.min(from + step, tensor.size);
      const bytes = source.readBytes(name, from * elementBytes, to * elementBytes);
      if (stored === target && tensor.quantised === undefined) {
        session.write(tensor, bytes, from * elementBytes);
      } else writeValues(session, tensor, decodeF32(bytes, stored), from);
      await session.flush();
    }
  }
}

/**
 * Writes f32 values from element `first` of a tensor on, in its storage type; parts of a quantised one hold whole
 * blocks.
 */
export function writeValues(session: Session, tensor: Tensor, values: Float32Array<ArrayBuffer>, first = 0): void {
  const type = tensor.dtype as StorageType;
  if (tensor.quantised === undefined) {
    return session.write(tensor, encodeF32(values, type), first * storageBytes[type]);
  }
  const { kind, block, codes, scales } = tensor.quantised;
  const quantised = quantise(kind, values, block);
  session.write(codes, quantised.codes, first / codesPerWord(kind) * 4);
  const scaleType = scales.dtype as StorageType;
  session.write(scales, encodeF32(quantised.scales, scaleType), first / block * storageBytes[scaleType]);
}
