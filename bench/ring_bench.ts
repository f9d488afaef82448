/**
 * Bandwidth of exchanges between processes against memcpy in the same run, and against MPI_Allreduce where mpirun is found.
 * Run: deno run -A bench/ring_bench.ts [MiB ...]
 *
 * A rate is payload over time, GB/s: the best of several rounds, of the slowest rank.
 */
import type { Communicator } from "../lib/comm/exchange/communicator.ts";
import { withCommunicator } from "../lib/comm/connect.ts";

import { groupVariable } from "../lib/comm/launch/membership.ts";
import { launch } from "../lib/comm/launch/launcher.ts";
import { regionShape } from "../lib/comm/shared_memory/region.ts";

/** Enough for every case to meet a quiet moment of the machine. */
const rounds = 30;
const print = (line: string) => void Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));

/**
 * Best rate of each case. Cases take turns, so that all meet the same disturbances; a round takes as long as its slowest rank.
 */
async function rates(
  communicator: Communicator,
  bytes: number,
  cases: readonly (() => Promise<void> | void)[],
): Promise<number[]> {
  const best = cases.map(() => Infinity);
  for (let round = 0; round <= rounds; round++) {
    for (const [i, body] of cases.entries()) {
      await communicator.barrier();
      const start = performance.now();
      await body();
      const microseconds = await communicator.agree(Math.round((performance.now() - start) * 1000));
      // The first round touches fresh pages.
      if (round > 0) best[i] = Math.min(best[i]!, microseconds);
    }
  }
  return best.map((microseconds) => bytes / microseconds / 1000);
}

async function measure(communicator: Communicator, mebibytes: number): Promise<string> {
  const { kind, rank, size } = communicator;
  const bytes = mebibytes * 2 ** 20;
  const from = new Uint8Array(bytes);
  const into = new Uint8Array(bytes);
  const [f32, bf16] = [communicator.allocate("f32", bytes / 4), communicator.allocate("bf16", bytes / 2)];
  const node = { begin: rank, end: rank + 1, data: new Float32Array(from.buffer) };
  const [alone, copy, ...sums] = await rates(communicator, bytes, [
    () => rank === 0 ? into.set(from) : undefined,
    () => into.set(from),
    () => communicator.allReduce(f32),
    () => communicator.allReduce(new Float32Array(into.buffer)),
    () => communicator.allReduce(bf16),
    () => communicator.reduceTree([node], size, new Float32Array(into.buffer)),
  ]);
  const cells = sums.map((value) => `${value.toFixed(2)} (${Math.round(100 * value / copy!)} %)`);
  return `| ${kind} | ${size} | ${mebibytes} | ${alone!.toFixed(2)} | ${copy!.toFixed(2)} | ${cells.join(" | ")} |`;
}

async function asRank(sizes: readonly number[]): Promise<void> {
  await withCommunicator(async (communicator) => {
    for (const mebibytes of sizes) {
      const line = await measure(communicator, mebibytes);
      if (communicator.rank === 0) print(line);
    }
  });
}

async function asLauncher(sizes: readonly string[]): Promise<void> {
  print(
    "| transport | ranks | MiB | memcpy by one rank | memcpy by all at once | f32 in place | f32 staged | bf16 in place | canonical |",
  );
  print("|---|---|---|---|---|---|---|---|---|");
  const module = new URL(import.meta.url);
  for (const size of [2, 4]) {
    const { cause } = await launch({
      module,
      args: sizes,
      size,
      shape: regionShape(size, undefined, 2 ** 31),
      onLine: ({ text }) => print(text),
    });
    if (cause !== undefined) throw new Error(cause);
    const rank = [Deno.execPath(), "run", "-A", module.pathname, ...sizes];
    try {
      const { stdout } = await new Deno.Command("mpirun", {
        args: ["--allow-run-as-root", "--oversubscribe", "-n", String(size), ...rank],
      }).output();
      print(new TextDecoder().decode(stdout).trim());
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

if (import.meta.main) {
  const sizes = Deno.args.length > 0 ? Deno.args : ["64", "256"];
  const isRank = Deno.env.get(groupVariable) !== undefined || Deno.env.get("OMPI_COMM_WORLD_SIZE") !== undefined;
  if (isRank) await asRank(sizes.map(Number));
  else await asLauncher(sizes);
}
