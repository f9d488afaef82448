/** Sums up what was watched: the time of every kernel family, and what the host did while the GPU had nothing to do. */
import { HOST_KINDS, type HostKind, type HostSpan, type TimedLaunch } from "../../gpu/timeline.ts";
import { type Arithmetic, arithmeticOf, secondsAtPeak } from "../../tune/peaks.ts";
import type { Peaks } from "../../tune/table.ts";

/** All launches of one family, in an average step. */
export interface FamilyFigures {
  /** Name of the family, as words. */
  readonly family: string;
  /** Time of all its launches. */
  readonly milliseconds: number;
  /** How many there are. */
  readonly launches: number;
  /** Operations over time; multiply and add are two. */
  readonly flopsPerSecond: number;
  /** Lower bound: every binding counts once per launch. */
  readonly bytesPerSecond: number;
  /**
   * Share of the measured peak of what does the arithmetic: matrix units, packed f16 or f32, and where a family uses
   * several, what its arithmetic would take at their peaks over its time. Absent where one of them was not measured.
   */
  readonly arithmeticShare?: number;
  /** Share of the measured rate of a copy. */
  readonly memoryShare?: number;
}

/**
 * Why the GPU had nothing to do: what lies between launches of one command buffer (`launches`), what the host was doing
 * meanwhile, or none of these (`other`).
 */
export type IdleCause = "launches" | Exclude<HostKind, "step"> | "other";

/** An average step: `milliseconds` is the sum of those of all families and of `idle`. */
export interface ProfileFigures {
  /** Steps that it is the average of. */
  readonly steps: number;
  /** Its length. */
  readonly milliseconds: number;
  /** The slowest first. */
  readonly families: readonly FamilyFigures[];
  /** Milliseconds in which the GPU had nothing to do, by cause. */
  readonly idle: Readonly<Record<IdleCause, number>>;
  /** Command buffers submitted. */
  readonly submits: number;
  /** Times that the host waited for the GPU. */
  readonly waits: number;
  /** Bytes that the host copied to the GPU. */
  readonly uploadedBytes: number;
}

interface Interval {
  readonly begin: number;
  readonly end: number;
}

/** Kinds of host work in the order in which they count where several go on at once: a wait is in no one's way. */
const PRECEDENCE = ["exchange", "batch", "upload", "encode", "wait"] as const satisfies typeof HOST_KINDS[number][];

/** The name in front of a kernel's spec, as words. */
export function familyOf(key: string): string {
  return key.split("(")[0]!.replaceAll("_", " ");
}

const length = (intervals: readonly Interval[]) => intervals.reduce((sum, { begin, end }) => sum + end - begin, 0);

/** What of `intervals` lies outside of `span`. */
function without(intervals: readonly Interval[], { begin, end }: Interval): Interval[] {
  return intervals.flatMap((each) =>
    [
      { begin: each.begin, end: Math.min(each.end, begin) },
      { begin: Math.max(each.begin, end), end: each.end },
    ].filter((left) => left.end > left.begin)
  );
}

/** Sums up the steps of `spans`; launches and idle time outside of them do not count. */
export function sumUp(
  launches: readonly TimedLaunch[],
  spans: readonly HostSpan[],
  peaks: Peaks | undefined,
): ProfileFigures {
  const steps = spans.filter(({ kind }) => kind === "step");
  const families = new Map<string, Family>();
  const idle: Record<string, number> = { launches: 0, other: 0 };
  for (const kind of HOST_KINDS) idle[kind] = 0;
  for (const step of steps) {
    const free: Interval[] = [];
    let at = step.begin;
    let batch: number | undefined;
    for (const launch of launches) {
      if (launch.end <= step.begin || launch.begin >= step.end) continue;
      const begin = Math.max(at, launch.begin);
      const end = Math.min(step.end, Math.max(at, launch.end));
      if (launch.batch === batch) idle.launches! += begin - at;
      else if (begin > at) free.push({ begin: at, end: begin });
      add(families, launch, end - Math.min(begin, end), launch.begin >= step.begin);
      at = Math.max(at, end);
      batch = launch.batch;
    }
    if (step.end > at) free.push({ begin: at, end: step.end });
    let left: readonly Interval[] = free;
    for (const kind of PRECEDENCE) {
      const before = length(left);
      for (const span of spans) if (span.kind === kind) left = without(left, span);
      idle[kind]! += before - length(left);
    }
    idle.other! += length(left);
  }
  const inSteps = spans.filter(({ kind, begin }) => {
    return kind !== "step" && steps.some((step) => begin >= step.begin && begin < step.end);
  });
  const count = steps.length;
  const ofKind = (kind: HostKind) => inSteps.filter((span) => span.kind === kind);
  return {
    steps: count,
    milliseconds: length(steps) / count,
    families: [...families].map(([family, sums]) => familyFigures(family, sums, count, peaks))
      .sort((a, b) => b.milliseconds - a.milliseconds),
    idle: Object.fromEntries(Object.entries(idle).map(([cause, sum]) => [cause, sum / count])) as Record<
      IdleCause,
      number
    >,
    submits: ofKind("encode").length / count,
    waits: ofKind("wait").length / count,
    uploadedBytes: ofKind("upload").reduce((sum, { bytes }) => sum + bytes, 0) / count,
  };
}

interface Family {
  milliseconds: number;
  launches: number;
  flops: Partial<Record<Arithmetic, number>>;
  bytes: number;
}

/** A launch that two steps share counts in the one it begins in; its time counts in both. */
function add(families: Map<string, Family>, launch: TimedLaunch, milliseconds: number, begins: boolean): void {
  const { key, features, flops, bytes } = launch;
  const name = familyOf(key);
  const sums = families.get(name) ?? { milliseconds: 0, launches: 0, flops: {}, bytes: 0 };
  sums.milliseconds += milliseconds;
  if (begins) {
    sums.launches++;
    const arithmetic = arithmeticOf(features);
    sums.flops[arithmetic] = (sums.flops[arithmetic] ?? 0) + flops;
    sums.bytes += bytes;
  }
  families.set(name, sums);
}

function familyFigures(
  family: string,
  { milliseconds, launches, flops, bytes }: Family,
  steps: number,
  peaks: Peaks | undefined,
): FamilyFigures {
  const perSecond = (amount: number) => milliseconds === 0 ? 0 : 1000 * amount / milliseconds;
  const total = Object.values(flops).reduce((sum, each) => sum + each, 0);
  const [flopsPerSecond, bytesPerSecond] = [perSecond(total), perSecond(bytes)];
  const seconds = peaks && secondsAtPeak(flops, peaks);
  return {
    family,
    milliseconds: milliseconds / steps,
    launches: launches / steps,
    flopsPerSecond,
    bytesPerSecond,
    ...(seconds === undefined ? {} : { arithmeticShare: perSecond(seconds) }),
    ...(peaks?.bytesPerSecond === undefined ? {} : { memoryShare: bytesPerSecond / peaks.bytesPerSecond }),
  };
}
