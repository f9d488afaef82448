/** Registers launches with `deno bench` and prints, when it ends, what its own table cannot: rates and shares of the peaks. */
import type { Launch, Target, Work } from "../kernels/core/kernel.ts";
import { Bench, type Content, type Job, median, quantile, type Sample } from "./harness.ts";
import { arithmeticPeak, measurePeaks, memoryPeak, type Peaks } from "./peaks.ts";

/** Launches to time. */
export interface Entry {
  readonly group: string;
  readonly name: string;
  readonly launch: (target: Target) => Launch | Work;
  /** What the buffers hold, in order or by name; called when the entry runs. */
  readonly contents: () => readonly Content[] | Readonly<Record<string, Content>>;
  /** Bytes the launch has to read and write; given for kernels that wait for memory, whose rate is then GB/s. */
  readonly bytes?: number;
}

interface Result {
  readonly name: string;
  readonly unit: "GF/s" | "GB/s";
  /** Operations or bytes of one run. */
  readonly work: number;
  readonly samples: Sample[];
  /** Share of the peak measured right after each sample. */
  readonly shares: number[];
}

/** Samples of one entry: `deno bench` would choose by wall time, which a shared machine makes useless. */
const ROUNDS = 9;

/** Writes a line of the report. */
export function print(line: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${line}\n`));
}

function table(results: readonly Result[], { flops, bytes }: Peaks, adapter: string): string {
  const rate = ({ work }: Result, clock: keyof Sample, samples: readonly Sample[]) =>
    samples.map((sample) => work / 1e6 / sample[clock]);
  const rows = results.map((result) => {
    const { unit } = result;
    const digits = unit === "GF/s" ? 1 : 2;
    const cpu = rate(result, "cpu", result.samples);
    const wall = rate(result, "wall", result.samples);
    const spread = `${quantile(cpu, 0.1).toFixed(digits)}-${Math.max(...cpu).toFixed(digits)}`;
    const share = (100 * median(result.shares)).toFixed(0);
    const perCore = `${median(cpu).toFixed(digits)} ${unit} (${spread})`;
    return `| ${result.name} | ${perCore} | ${share} % | ${median(wall).toFixed(digits)} ${unit} |`;
  });
  return [
    "",
    `${adapter}; peak ${flops.cpu.toFixed(1)} GF/s and copy ${bytes.cpu.toFixed(2)} GB/s per core-second, ` +
    `${flops.wall.toFixed(1)} GF/s and ${bytes.wall.toFixed(2)} GB/s by the clock`,
    "| kernel | per core-second: median (p10-max) | of peak | by the clock |",
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
  const arithmetic = arithmeticPeak(bench);
  const memory = memoryPeak(bench);
  // The runner calls a function as often as it likes; buffers are kept until the next entry begins.
  async function begin(entry: Entry) {
    if (running !== undefined) bench.free(running.job);
    const job = bench.prepare(entry.launch(bench.device.target), entry.contents());
    const result: Result = {
      name: `${entry.group}, ${entry.name}`,
      unit: entry.bytes === undefined ? "GF/s" : "GB/s",
      work: entry.bytes ?? job.flops,
      samples: [],
      shares: [],
    };
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
        const { job, result: { work, samples, shares } } = running?.entry === entry ? running : await begin(entry);
        b.start();
        const sample = await bench.sample(job);
        b.end();
        const byMemory = entry.bytes !== undefined;
        const ceiling = await bench.sample(byMemory ? memory.job : arithmetic);
        samples.push(sample);
        shares.push(work / sample.cpu / ((byMemory ? memory.bytes : arithmetic.flops) / ceiling.cpu));
      },
    });
  }
  globalThis.addEventListener("unload", () => print(table(results, peaks, bench.device.adapter.description)));
}
