/**
 * What was watched as a trace in the format of Chrome, which Perfetto (ui.perfetto.dev) and chrome://tracing open. The
 * host has a track for each kind of work, as work of several kinds goes on at once.
 */
import { HOST_KINDS, type HostSpan, type TimedLaunch } from "../../gpu/timeline.ts";
import { familyOf } from "./figures.ts";

/** A span of the trace; times in microseconds. */
interface TraceEvent {
  readonly name: string;
  readonly ph: "X" | "M";
  readonly pid: number;
  readonly tid: number;
  readonly ts?: number;
  readonly dur?: number;
  readonly args: Readonly<Record<string, unknown>>;
}

const TRACKS = ["GPU", "step", ...HOST_KINDS] as const;

/** The trace as JSON; spans are in the order in which they begin, the first at 0. */
export function traceJson(launches: readonly TimedLaunch[], spans: readonly HostSpan[]): string {
  const starts = [...launches, ...spans].map(({ begin }) => begin);
  const first = starts.reduce((least, begin) => Math.min(least, begin), Infinity);
  const span = (
    track: typeof TRACKS[number],
    name: string,
    { begin, end }: { readonly begin: number; readonly end: number },
    args: TraceEvent["args"],
  ): TraceEvent => ({
    name,
    ph: "X",
    pid: 1,
    tid: TRACKS.indexOf(track) + 1,
    ts: 1000 * (begin - first),
    dur: 1000 * (end - begin),
    args,
  });
  const events = [
    ...launches.map((launch) => {
      const { key, scope, flops, bytes } = launch;
      return span("GPU", familyOf(key), launch, { kernel: key, scope, flops, bytes });
    }),
    ...spans.map((each) => span(each.kind, each.kind, each, each.bytes > 0 ? { bytes: each.bytes } : {})),
  ].sort((a, b) => a.ts! - b.ts!);
  const names = TRACKS.map((name, i): TraceEvent => {
    return { name: "thread_name", ph: "M", pid: 1, tid: i + 1, args: { name: i === 0 ? name : `host: ${name}` } };
  });
  return JSON.stringify({ displayTimeUnit: "ms", traceEvents: [...names, ...events] });
}
