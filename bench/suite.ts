/** Registers launches with `deno bench` and prints, when it ends, what its own table cannot: rates and shares of the peaks. */
import type { Launch, Target } from "../kernels/kernel.ts";
import { Bench, type Job, median, quantile, type Sample } from "./harness.ts";
import { arithmeticPeak, measurePeaks, type Peaks } from "./peaks.ts";

/** A launch to time. */
export interface Entry {
  readonly group: string;
  readonly name: string;
  readonly launch: (target: Target) => Launch;
  /** Bytes of each buffer, or its number of elements (zeros); called when the entry runs. */
  readonly contents: () => readonly (Uint8Array<ArrayBuffer> | number)[];
}

interface Result {
  readonly name: string;
  readonly flops: number;
  readonly samples: Sample[];
  /** Share of the arithmetic peak measured right after each sample. */
  readonly shares: number[];
}

/** Samples of one entry: `deno bench` would choose by wall time, which a shared machine makes useless. */
const ROUNDS = 9;

/** Writes a line of the report. */
export function print(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

function table(results: readonly Result[], { flops, bytes }: Peaks, adapter: string): string {
  const rate = ({ flops }: Result, clock: keyof Sample, samples: readonly Sample[]) =>
    samples.map((sample) => flops / 1e6 / sample[clock]);
  const rows = results.map((result) => {
    const cpu = rate(result, "cpu", result.samples);
    const wall = rate(result, "wall", result.samples);
    const spread = `${quantile(cpu, 0.1).toFixed(1)}-${Math.max(...cpu).toFixed(1)}`;
    const share = (100 * median(result.shares)).toFixed(0);
    return `| ${result.name} | ${median(cpu).toFixed(1)} (${spread}) | ${share} % | ${median(wall).toFixed(1)} |`;
  });
  return [
    "",
    `${adapter}; peak ${flops.cpu.toFixed(1)} GF/s and copy ${bytes.cpu.toFixed(2)} GB/s per core-second, ` +
    `${flops.wall.toFixed(1)} GF/s and ${bytes.wall.toFixed(2)} GB/s by the clock`,
    "| kernel | GF/s per core-second: median (p10-max) | of peak | GF/s by the clock |",
    "|---|---|---|---|",
    ...rows,
  ].join("\n");
}

/** Registers the entries and the report. Call once per bench file. */
export async function benchLaunches(entries: readonly Entry[]): Promise<void> {
  const bench = await Bench.open();
  const peaks = await measurePeaks(bench);
  const results: Result[] = [];
  let running: { readonly entry: Entry; readonly job: Job; readonly result: Result } | undefined;
  const peak = arithmeticPeak(bench);
  // The runner calls a function as often as it likes; buffers are kept until the next entry begins.
  async function begin(entry: Entry) {
    if (running !== undefined) bench.free(running.job);
    const job = bench.prepare(entry.launch(bench.device.target), entry.contents());
    const result: Result = { name: `${entry.group}, ${entry.name}`, flops: job.launch.flops, samples: [], shares: [] };
    running = { entry, job, result };
    results.push(result);
    await bench.sample(job);
    return running;
  }
  for (const entry of entries) {
    Deno.bench({
      group: entry.group,
      name: entry.name,
      n: ROUNDS,
      warmup: 0,
      async fn(b) {
        const { job, result: { flops, samples, shares } } = running?.entry === entry ? running : await begin(entry);
        b.start();
        const sample = await bench.sample(job);
        b.end();
        const ceiling = await bench.sample(peak);
        samples.push(sample);
        shares.push(flops / sample.cpu / (peak.launch.flops / ceiling.cpu));
      },
    });
  }
  globalThis.addEventListener("unload", () => print(table(results, peaks, bench.device.adapter.description)));
}
