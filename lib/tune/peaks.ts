/**
 * What a card can do at best, measured on it: makers' figures hold for no driver and no clock. Measured once and kept
 * with the card's kernels.
 */
import type { Launch, WgslFeature } from "../../kernels/core/kernel.ts";
import { unitOf } from "../../kernels/core/units.ts";
import { type Ceiling, copy, multiplyAdds, peakSizes } from "../../kernels/peaks/multiply_adds.ts";
import { unitProducts } from "../../kernels/peaks/unit_products.ts";
import { messageOf } from "../errors.ts";
import type { Device } from "../gpu/device.ts";
import { Executable } from "../gpu/executable.ts";
import { Session } from "../gpu/session.ts";
import { Plan } from "../plan/plan.ts";
import { finish } from "../plan/recording.ts";
import { Tensor } from "../plan/tensor.ts";
import { guarded } from "./guarded.ts";
import type { TuneOptions } from "./tune.ts";
import { ARITHMETIC, cardOf, digest, type Peaks, readTable, writeTable } from "./table.ts";

/** What does the arithmetic of a kernel. */
export type Arithmetic = typeof ARITHMETIC[number];

/** What does the arithmetic of a text that uses these features. */
export function arithmeticOf(features: readonly WgslFeature[]): Arithmetic {
  if (features.includes("subgroup_matrix")) return "units";
  return features.includes("f16") ? "f16" : "f32";
}

/** Seconds that arithmetic takes at the peaks; undefined where one that it needs is not known. */
export function secondsAtPeak(
  flops: Readonly<Partial<Record<Arithmetic, number>>>,
  { operations }: Peaks,
): number | undefined {
  let seconds = 0;
  for (const kind of ARITHMETIC) {
    const [amount = 0, rate] = [flops[kind], operations[kind]];
    if (amount === 0) continue;
    if (rate === undefined) return undefined;
    seconds += amount / rate;
  }
  return seconds;
}

/** Runs of each launch, of which the median counts; the first one compiles and is left out. */
const RUNS = 6;

/** Results that are compared with what they have to be, from the beginning and from the end. */
const COMPARED = 4096;

/** What has a ceiling on this device. A subgroup that the driver makes smaller than the largest leaves units idle. */
export function ceilingsOf({ target, adapter }: Device): Readonly<Partial<Record<Arithmetic, Ceiling>>> {
  const { workgroups } = peakSizes(adapter.software);
  const unit = unitOf({ ...target, mixed: true });
  return {
    ...(unit === undefined ? {} : { units: unitProducts(unit, target.subgroupMax, workgroups) }),
    ...(target.f16 ? { f16: multiplyAdds("f16", workgroups) } : {}),
    f32: multiplyAdds("f32", workgroups),
  };
}

/**
 * The ceilings of a card, from the table of what was measured on it or measured in less than a second; undefined where
 * passes can't be timed on the GPU. `problems` says what was refused just now: no run ends for it.
 */
export async function peaksOf(
  device: Device,
  { folder, again = false, ceilings = ceilingsOf(device) }: TuneOptions & {
    readonly ceilings?: Readonly<Partial<Record<Arithmetic, Ceiling>>>;
  } = {},
): Promise<{ readonly peaks: Peaks | undefined; readonly problems: readonly string[] }> {
  if (!device.timestamps) return { peaks: undefined, problems: [] };
  const table = readTable(cardOf(device.adapter), folder);
  const copied = peakSizes(device.adapter.software).elements;
  const all = [...Object.values(ceilings).map(({ launch }) => launch), copy(copied)];
  const texts = digest(all.map(({ kernel, params, grid }) => `${kernel.code}${params}${grid}`).join("\n"));
  if (!again && table.peaks?.texts === texts) return { peaks: table.peaks, problems: [] };
  const found: Peaks = { texts, operations: {}, refused: {} };
  for (const kind of ARITHMETIC) {
    const ceiling = ceilings[kind];
    if (ceiling === undefined) continue;
    const reason = await guarded(device, async () => {
      const { seconds, wrong } = await timeArithmetic(device, ceiling);
      if (wrong !== undefined) return wrong;
      found.operations[kind] = ceiling.launch.flops / seconds;
    });
    if (reason !== undefined) found.refused[kind] = reason;
  }
  const reason = await guarded(device, async () => {
    using session = new Session(device);
    const [from, to] = [resident("from", copied), resident("to", copied)];
    found.bytesPerSecond = 8 * copied / await timed(session, copy(copied), [from, to]);
  });
  if (reason !== undefined) found.refused.copy = reason;
  const problems = Object.entries(found.refused).map(([kind, why]) => {
    return `the peak of this card in ${WORDS[kind]} is not known: ${why}`;
  });
  try {
    await writeTable({ ...table, peaks: found }, folder);
  } catch (error) {
    problems.push(`the measured peaks of this card are not kept: ${messageOf(error)}`);
  }
  return { peaks: found, problems };
}

const WORDS: Readonly<Record<string, string>> = {
  units: "products on matrix units",
  f16: "f16 arithmetic",
  f32: "f32 arithmetic",
  copy: "copies",
};

function resident(name: string, size: number): Tensor {
  return new Tensor(name, [size], "f32", { resident: true });
}

/** Seconds of a launch, and what is wrong with its results. */
async function timeArithmetic(
  device: Device,
  { launch, results, expected }: Ceiling,
): Promise<{ readonly seconds: number; readonly wrong: string | undefined }> {
  using session = new Session(device);
  const sums = resident("sums", results);
  const seconds = await timed(session, launch, [sums]);
  const count = Math.min(COMPARED, results);
  const starts = [0, results - count];
  const read = await session.readRanges(starts.map((start) => session.ranges(sums, 4 * start, 4 * count)));
  for (const [i, start] of starts.entries()) {
    for (const [offset, value] of new Float32Array(read[i]!).entries()) {
      const right = expected(start + offset);
      if (value !== right) return { seconds, wrong: `it computed ${value} where ${right} is right` };
    }
  }
  return { seconds, wrong: undefined };
}

/** Seconds of a launch that writes the last of `tensors`, on the GPU's clock. */
async function timed(session: Session, launch: Launch, tensors: readonly Tensor[]): Promise<number> {
  const { device } = session;
  const plan = new Plan({ target: device.target });
  for (let i = 0; i < RUNS; i++) plan.launch(launch, tensors, tensors.slice(-1));
  using executable = new Executable(session, finish(plan, session.limits));
  const timeline = device.watch();
  try {
    await executable.run();
  } finally {
    device.timeline = undefined;
  }
  const times = (await timeline.launches()).map(({ begin, end }) => end - begin);
  return times.slice(1).sort((a, b) => a - b)[RUNS >> 1]! / 1000;
}
