/**
 * The part of the trained values that one rank updates, for sharded optimizer state (ZeRO, arXiv:1910.02054).
 *
 * Gradients leave the GPU block by block and are summed over ranks in host memory, where each rank keeps its shard of
 * the sum. It updates its shard of masters and moments, and the working values of all shards are gathered in host
 * memory again.
 */
import { shardOf } from "../comm/exchange/arrays.ts";
import type { Bucket } from "../models/tensors/trainables.ts";
import { bytesOf } from "../../kernels/core/kernel.ts";
import { Tensor } from "../plan/tensor.ts";

/** A host tensor that is a range of another one, so that a plan copies that range alone. */
export interface HostAlias {
  readonly tensor: Tensor;
  readonly of: Tensor;
  readonly byteOffset: number;
}

/** What one rank updates. */
export interface Shard {
  readonly rank: number;
  readonly size: number;
  /** One bucket for each of the model's in which this rank has a share, in order. */
  readonly buckets: readonly Bucket[];
  /** By bucket of the model: the working values as gathered from all ranks, in host memory. */
  readonly gathered: readonly Tensor[];
  readonly aliases: readonly HostAlias[];
}

/** Options of {@linkcode shardBuckets}. */
export interface ShardOptions {
  readonly rank: number;
  readonly size: number;
  /** Masters and moments of the shard live in host memory too. */
  readonly offload: boolean;
}

/**
 * Declares the shard of `rank`. The buckets have gradients in host memory, and copies: where those are on the GPU they
 * are uploaded from `gathered` after every update, else they are `gathered` themselves.
 */
export function shardBuckets(buckets: readonly Bucket[], { rank, size, offload }: ShardOptions): Shard {
  const aliases: HostAlias[] = [];
  const gathered: Tensor[] = [];
  const shards: Bucket[] = [];
  for (const { gradients, copy } of buckets) {
    if (copy === undefined || !gradients.host) throw new TypeError("Sharding needs working copies and host gradients");
    const whole = copy.host ? copy : new Tensor(`gathered ${copy.name}`, copy.shape, copy.dtype, { host: true });
    gathered.push(whole);
    const { begin, end } = shardOf(gradients.size, rank, size);
    if (begin === end) continue;
    const alias = (of: Tensor) => {
      const tensor = new Tensor(`shard of ${of.name}`, [end - begin], of.dtype, { host: true });
      aliases.push({ tensor, of, byteOffset: begin * bytesOf(of.dtype) });
      return tensor;
    };
    shards.push({
      values: new Tensor(`shard of masters ${gathered.length - 1}`, [end - begin], "f32", {
        resident: true,
        host: offload,
      }),
      gradients: alias(gradients),
      copy: alias(whole),
      tensors: [],
    });
  }
  return { rank, size, buckets: shards, gathered, aliases };
}
