/**
 * What an exact continuation saves: masters and optimizer states, always as whole tensors. Where they are sharded over
 * ranks, a tensor is gathered while it is written and cut while it is read, so a checkpoint does not depend on the
 * number of ranks.
 */
import { type Communicator, longPhase } from "../../comm/exchange/communicator.ts";
import { shardOf } from "../../comm/exchange/arrays.ts";
import type { Session } from "../../gpu/session.ts";
import type { DType } from "../../../kernels/core/kernel.ts";
import type { Tensor } from "../../plan/tensor.ts";
import type { OptimizerTensors } from "../../optim/update.ts";
import type { RunDescription } from "../../step/run_description.ts";

/** One tensor of the state file. */
export interface StateEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** The whole tensor. Every rank calls it for the same entries in the same order. */
  read(): Promise<Uint8Array<ArrayBuffer>>;
  /** Takes what this rank needs; `bytes` reads a range of the whole tensor. */
  restore(bytes: (begin: number, end: number) => Uint8Array<ArrayBuffer>): void;
}

/** The entries of a run, in the order in which the state file holds them. */
export function stateEntries(
  session: Session,
  communicator: Communicator,
  run: RunDescription,
  optimizer: OptimizerTensors,
): StateEntry[] {
  const entries = run.shard === undefined
    ? wholeEntries(session, run, optimizer)
    : shardedEntries(session, communicator, run, optimizer);
  return entries.sort((a, b) => a.name < b.name ? -1 : 1);
}

function wholeEntries(session: Session, run: RunDescription, { states }: OptimizerTensors): StateEntry[] {
  const masters = run.trainables.buckets.map(({ values }, i) => [`values.${i}`, values] as const);
  return [...masters, ...states].map(([name, tensor]) => ({
    name,
    shape: tensor.shape,
    dtype: tensor.dtype,
    read: async () => new Uint8Array((await session.read([tensor]))[0]!),
    restore: (bytes) => session.write(tensor, bytes(0, tensor.bytes)),
  }));
}

function shardedEntries(
  session: Session,
  communicator: Communicator,
  { trainables, shard }: RunDescription,
  { states }: OptimizerTensors,
): StateEntry[] {
  const { rank, size } = communicator;
  let own = 0;
  return trainables.buckets.flatMap(({ gradients }, bucket) => {
    const { begin, end } = shardOf(gradients.size, rank, size);
    const index = begin === end ? undefined : own++;
    const entry = (kind: string, tensor: Tensor | undefined): StateEntry => ({
      name: `${kind}.${bucket}`,
      shape: gradients.shape,
      dtype: "f32",
      async read() {
        const whole = new Float32Array(gradients.size);
        if (tensor !== undefined) whole.set(await session.readF32(tensor), begin);
        // The first rank writes one entry to disk before it reads the next.
        await communicator.allGather(whole, { deadline: longPhase });
        return new Uint8Array(whole.buffer);
      },
      restore(bytes) {
        if (tensor !== undefined) session.write(tensor, bytes(4 * begin, 4 * end));
      },
    });
    const state = (kind: string) => index === undefined ? undefined : states.get(`${kind}.${index}`);
    return [
      entry("values", index === undefined ? undefined : shard!.buckets[index]!.values),
      entry("m", state("m")),
      entry("v", state("v")),
    ];
  });
}
