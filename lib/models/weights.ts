/** Checkpoint tensors into GPU memory: names and shapes are checked in full before any byte is uploaded. */
import { UserErrors } from "../errors.ts";
import type { Session } from "../gpu/session.ts";
import { decodeF32, encodeF32, type StorageType } from "../io/half.ts";
import type { TensorSource } from "../io/safetensors.ts";
import type { Tensor } from "../plan/tensor.ts";

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

/** Uploads checkpoint tensors to the resident tensors of the same names, converting to their storage types on the way. */
export async function uploadTensors(
  session: Session,
  source: TensorSource,
  tensors: ReadonlyMap<string, Tensor>,
): Promise<void> {
  for (const [name, tensor] of tensors) {
    const stored = STORED[source.tensors.get(name)!.dtype]!;
    const elementBytes = stored === "f32" ? 4 : 2;
    const target = tensor.dtype as StorageType;
    const step = BLOCK_BYTES / elementBytes;
    for (let from = 0; from < tensor.size; from += step) {
      const to = Math.min(from + step, tensor.size);
      const bytes = source.readBytes(name, from * elementBytes, to * elementBytes);
      const data = stored === target ? bytes : encodeF32(decodeF32(bytes, stored), target);
      session.write(tensor, data, from * (target === "f32" ? 4 : 2));
      await session.flush();
    }
  }
}
