/** The profile of a run as a table and sentences. */
import type { FamilyFigures, IdleCause } from "../../train/profile/figures.ts";
import type { ProfileEvent } from "../../train/report/events.ts";
import { formatBytes, formatTable } from "./text.ts";

const IDLE_WORDS: Readonly<Record<IdleCause, string>> = {
  launches: "idle between launches",
  batch: "idle, host prepares a batch",
  upload: "idle, host uploads",
  encode: "idle, host encodes",
  wait: "idle, host waits",
  exchange: "idle, ranks exchange",
  other: "idle, host does other work",
};

/** Shares below this of a step are not shown as idle time. */
const LEAST_IDLE = 1e-3;

/** The lines to print. */
export function profileLines({ figures, words, trace }: ProfileEvent): string[] {
  const { steps, milliseconds, families, idle, waits, submits, uploadedBytes } = figures;
  const share = (time: number) => `${(100 * time / milliseconds).toFixed(1)} %`;
  const idleRows = (Object.entries(idle) as [IdleCause, number][])
    .filter(([, time]) => time > LEAST_IDLE * milliseconds)
    .map(([cause, time]) => [IDLE_WORDS[cause], time.toFixed(2), share(time), "", "", "", "", ""]);
  const header = ["kernels", "ms", "of step", "launches", "TFLOP/s", "GB/s", "of peak", "of copy"];
  return [
    `Profile of ${steps} ${steps === 1 ? "step" : "steps"}, ${milliseconds.toFixed(1)} ms each:`,
    ...formatTable(header, [...families.map((family) => familyRow(family, share)), ...idleRows]),
    `Per step: ${submits.toFixed(0)} command buffers, ${waits.toFixed(0)} waits of the host, ${
      formatBytes(Math.round(uploadedBytes))
    } uploaded`,
    ...words,
    `Trace for ui.perfetto.dev: ${trace}`,
  ];
}

/** Three digits, as far as they mean something. */
function rate(value: number): string {
  return value < 0.01 ? value.toFixed(4) : value.toPrecision(3);
}

function familyRow(figures: FamilyFigures, share: (time: number) => string): (string | number)[] {
  const { family, milliseconds, launches, flopsPerSecond, bytesPerSecond, arithmeticShare, memoryShare } = figures;
  const percent = (value: number | undefined) => value === undefined ? "-" : `${(100 * value).toFixed(1)} %`;
  return [
    family,
    milliseconds.toFixed(2),
    share(milliseconds),
    launches.toFixed(0),
    flopsPerSecond === 0 ? "-" : rate(flopsPerSecond / 1e12),
    rate(bytesPerSecond / 1e9),
    flopsPerSecond === 0 ? "-" : percent(arithmeticShare),
    percent(memoryShare),
  ];
}
