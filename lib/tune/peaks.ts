/** What a card can do at best, measured on it: makers' figures hold for no driver and no clock. */
import { copy, multiplyAdds, peakResults, peakSizes } from "../../kernels/rows/peaks.ts";
import type { Device } from "../gpu/device.ts";
import { Executable } from "../gpu/executable.ts";
import { Session } from "../gpu/session.ts";
import { Plan } from "../plan/plan.ts";
import { finish } from "../plan/recording.ts";
import { Tensor } from "../plan/tensor.ts";

/** Ceilings of a card. */
export interface Peaks {
  /** f32 multiply-adds in registers, each counted as two. */
  readonly flopsPerSecond: number;
  /** Bytes that a copy reads and writes. */
  readonly bytesPerSecond: number;
}

/** Runs of each launch, of which the median counts; the first one compiles and is left out. */
const RUNS = 6;

/** Measures both ceilings in less than a second; undefined where passes can't be timed on the GPU. */
export async function measurePeaks(device: Device): Promise<Peaks | undefined> {
  if (!device.timestamps) return undefined;
  const { workgroups, elements } = peakSizes(device.adapter.software);
  using session = new Session(device);
  const buffer = (name: string, size: number) => new Tensor(name, [size], "f32", { resident: true });
  const [sums, from, to] = [buffer("sums", peakResults(workgroups)), buffer("from", elements), buffer("to", elements)];
  const plan = new Plan({ target: device.target });
  const arithmetic = multiplyAdds(workgroups);
  for (let i = 0; i < RUNS; i++) plan.launch(arithmetic, [sums], [sums]);
  for (let i = 0; i < RUNS; i++) plan.launch(copy(elements), [from, to], [to]);
  using executable = new Executable(session, finish(plan, session.limits));
  const timeline = device.watch();
  try {
    await executable.run();
  } finally {
    device.timeline = undefined;
  }
  const times = (await timeline.launches()).map(({ begin, end }) => end - begin);
  const median = (first: number) => times.slice(first + 1, first + RUNS).sort((a, b) => a - b)[RUNS >> 1]! / 1000;
  return { flopsPerSecond: arithmetic.flops / median(0), bytesPerSecond: 8 * elements / median(RUNS) };
}
