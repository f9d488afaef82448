/** Which value of masters and optimizer state is not finite, once an update has told that one is. */
import { bytesOf } from "../../kernels/core/kernel.ts";
import type { Session } from "../gpu/session.ts";
import { findNonFinite } from "../io/safetensors/finite.ts";
import type { Bucket } from "../models/tensors/trainables.ts";
import type { OptimizerTensors } from "../optim/update.ts";
import type { Tensor } from "../plan/tensor.ts";

/** Names the first such value as a checkpoint does; states before masters, as those are made with these. */
export async function brokenTensor(session: Session, { buckets, states }: OptimizerTensors): Promise<string> {
  const masters = buckets.map(({ values }, i) => [`values.${i}`, values] as const);
  for (const [name, tensor] of [...states, ...masters]) {
    if (tensor.dtype === "u32") continue;
    const [bytes] = await session.read([tensor]);
    const at = findNonFinite(new Uint8Array(bytes!), tensor.dtype);
    if (at >= 0) return `"${name}"${ownerOf(name, at, tensor, buckets)} is NaN or infinite at element ${at}`;
  }
  return "a value of the update was NaN or infinite";
}

/**
 * The trained tensor that element `at` belongs to, or the first of its bucket; nothing for shards, which cut tensors.
 */
function ownerOf(name: string, at: number, { size }: Tensor, buckets: readonly Bucket[]): string {
  const bucket = buckets[Number(/\.(\d+)$/.exec(name)?.[1])];
  const owner = size === bucket?.values.size
    ? bucket.tensors.findLast(({ master }) => master.byteOffset / bytesOf(master.dtype) <= at)
    : bucket?.tensors[0];
  return owner === undefined ? "" : ` of ${owner.name}`;
}
