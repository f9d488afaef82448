/** Times launches in all variants of their family, from small shapes up to the real one. */
import type { Launch, Work } from "../../kernels/core/kernel.ts";
import { Bench, type Content, type Job, median } from "../harness.ts";
import type { Entry } from "../suite.ts";
import { type Figures, rounded } from "./results.ts";
import { attempt, isSmall } from "./stage.ts";

/** The same launch in growing sizes: a slow variant is stopped before it hangs the display or loses the device. */
export type Ladder = readonly Entry[];

/** Longest dispatch that is risked, in milliseconds: drivers that watch theirs end it after two seconds and more. */
const LONGEST = isSmall ? 200 : 1000;

/** Milliseconds of one sample: long enough that the wait of 12 ms for a result is small where passes can't be timed. */
const SAMPLE = isSmall ? 20 : 150;

const SAMPLES = isSmall ? 1 : 5;

/** Milliseconds of one run. The first one compiles. */
async function time(bench: Bench, job: Job): Promise<number> {
  await bench.sample(job);
  const { wall: once } = await bench.sample(job);
  const repeats = Math.min(100, Math.max(1, Math.ceil(SAMPLE / once)));
  const samples: number[] = [];
  for (let i = 0; i < SAMPLES; i++) samples.push((await bench.sample(job, repeats)).wall);
  return median(samples);
}

function launchesOf(work: Launch | Work): readonly Launch[] {
  return "kernel" in work ? [work] : work.launches.map(({ launch }) => launch);
}

/** Opens the device again after a failure, which an engine reports with every call from then on. */
export class Stopwatch {
  #bench: Bench | undefined;

  /** Measures the preferred variants of all ladders first, then all others: a stage may run out of time. */
  async measure(ladders: readonly Ladder[]): Promise<void> {
    const others: (() => Promise<void>)[] = [];
    for (const ladder of ladders) {
      const problem = launchesOf(ladder.at(-1)!.launch(await this.#target()))[0]!.problem;
      await this.#climb(ladder, problem?.chosen);
      for (const name of problem?.candidates() ?? []) {
        if (name !== problem!.chosen) others.push(() => this.#climb(ladder, name));
      }
    }
    for (const other of others) await other();
  }

  async #open(): Promise<Bench> {
    return this.#bench ??= await Bench.open();
  }

  /**
   * Products may round to f16, so that the variants on matrix units take part; not on software drivers, which compile one of those for
   * 20 s.
   */
  async #target() {
    const { target, adapter } = (await this.#open()).device;
    return { ...target, mixed: !adapter.software };
  }

  async #climb(ladder: Ladder, variant: string | undefined): Promise<void> {
    const { group, name } = ladder.at(-1)!;
    const done = await attempt(group, { shape: name, variant }, () => this.#rungs(ladder, variant));
    if (done) return;
    this.#bench?.[Symbol.dispose]();
    this.#bench = undefined;
  }

  async #rungs(ladder: Ladder, variant: string | undefined): Promise<Figures> {
    const bench = await this.#open();
    const target = await this.#target();
    let figures: Figures = {};
    let perWork = 0;
    for (const entry of ladder) {
      const preferred = entry.launch(target);
      const { problem } = launchesOf(preferred)[0]!;
      const work = variant === undefined ? preferred : problem!.work(variant);
      const operations = launchesOf(work).reduce((sum, { flops }) => sum + flops, 0);
      const amount = entry.bytes ?? operations;
      if (perWork * amount > LONGEST) return { ...figures, stopped: "the real shape would take too long" };
      const contents = this.#fitting(bench, entry.contents());
      const job = bench.prepare(work, contents);
      try {
        const ms = await time(bench, job);
        perWork = ms / amount;
        const rate = entry.bytes === undefined
          ? { tflops: rounded(operations / 1e9 / ms) }
          : { gb_s: rounded(entry.bytes / 1e6 / ms) };
        const choice = problem === undefined ? {} : { preferred: variant === problem.chosen };
        figures = { shape: entry.name, ...choice, ms: rounded(ms), ...rate };
      } finally {
        bench.free(job);
      }
    }
    return figures;
  }

  /** A buffer that the device can't bind would fail much later, and without its size. */
  #fitting<Contents extends ReturnType<Entry["contents"]>>(bench: Bench, contents: Contents): Contents {
    const { chunkBytes, bindingBytes } = bench.device.limits;
    const most = Math.min(chunkBytes, bindingBytes);
    const bytes = (content: Content) => typeof content === "number" ? 2 * content : content.byteLength;
    const largest = Math.max(...Object.values<Content>(contents as Readonly<Record<string, Content>>).map(bytes));
    if (largest > most) {
      throw new RangeError(`An operand of ${largest} bytes is larger than one binding, ${most} bytes`);
    }
    return contents;
  }
}
