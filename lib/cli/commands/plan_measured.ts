/** The time of a phase at what was measured on a card of this machine. */
import type { RecordedPhase } from "../../forecast/forecast.ts";
import { knownRates } from "../../forecast/gpu_rates.ts";
import { roofline } from "../../plan/recording.ts";
import { allTables, type Table } from "../../tune/table.ts";

/** Share of a phase's arithmetic that must have been measured: the rest is priced at the rate of what was. */
const LEAST_SHARE = 0.8;

/** Seconds of the used variants by keys of problems. */
function secondsOf({ problems }: Table): Map<string, number> {
  return new Map(
    Object.entries(problems).flatMap(([key, { variant, milliseconds }]) => {
      const time = milliseconds[variant];
      return time === undefined ? [] : [[key, time / 1000]];
    }),
  );
}

/**
 * A card and the seconds that a unit of the phase takes on it; undefined where most of the phase was measured on none.
 */
export function measuredTime(
  { work }: RecordedPhase,
  tables: readonly Table[] = allTables(),
): { readonly card: string; readonly seconds: number } | undefined {
  const launches = work.flatMap(({ recording }) => recording.launches).filter((launch) => launch !== undefined);
  const total = launches.reduce((sum, { flops }) => sum + flops, 0);
  for (const table of tables) {
    const measured = secondsOf(table);
    const known = launches.filter(({ problem }) => measured.has(problem?.key ?? ""));
    const covered = known.reduce((sum, { flops }) => sum + flops, 0);
    if (covered < LEAST_SHARE * total) continue;
    const seconds = known.reduce((sum, { problem }) => sum + measured.get(problem!.key)!, 0);
    const rates = {
      ...{ bytesPerSecond: Infinity, linkBytesPerSecond: Infinity },
      ...knownRates(table.card),
      flopsPerSecond: covered / seconds,
    };
    const time = work.reduce((sum, { recording, runs }) => sum + runs * roofline(recording, rates, measured), 0);
    return { card: table.card, seconds: time };
  }
}
