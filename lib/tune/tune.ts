/**
 * Chooses kernels by measuring them. No one can shape kernels for a card they don't have, so every variant of a problem
 * is run once on this one: first in a small size against the slow twin, then in the run's own size for the clock. What
 * gives wrong numbers is refused and reported, never used.
 */
import type { Problem } from "../../kernels/core/kernel.ts";
import type { Device } from "../gpu/device.ts";
import { Session } from "../gpu/session.ts";
import { guarded } from "./guarded.ts";
import { cardOf, digest, type Measured, readTable, writeTable } from "./table.ts";
import { difference, type Result, textsOf, Trial } from "./trial.ts";

/** A problem is about to be measured. */
export interface TuneEvent {
  /** Tells events apart. */
  readonly type: "tune";
  /** Problems that are measured so far. */
  readonly done: number;
  /** Problems of the run. */
  readonly total: number;
  /** Key of the problem, empty when all are done. */
  readonly problem: string;
}

/** A variant that gives wrong numbers on this card, or does not run on it. */
export interface RefusedEvent {
  readonly type: "refused";
  readonly problem: string;
  readonly variant: string;
  readonly reason: string;
}

/** What is asked of a measurement. */
export interface TuneOptions {
  /** Where tables are kept; by default the user's cache folder. */
  readonly folder?: string | undefined;
  /** Measures what is known already too. */
  readonly again?: boolean;
}

/**
 * Milliseconds that one variant is timed for, and the most runs of it: beyond, the spread of a card's clock counts
 * more.
 */
const TIMED_MILLISECONDS = 30;
const MOST_RUNS = 50;

/** A variant that is so much slower than the fastest so far in its first run is not timed again. */
const HOPELESS = 2;

/**
 * Measures the problems that are not known on this card. Returns what is known of all of them, by key; keeps it for the
 * next run after every problem, so an interrupted run has lost one.
 */
export async function* tune(
  device: Device,
  problems: readonly Problem[],
  { folder, again = false }: TuneOptions = {},
): AsyncGenerator<TuneEvent | RefusedEvent, ReadonlyMap<string, Measured>> {
  const card = cardOf(device.adapter);
  const table = readTable(card, folder);
  const known = new Map<string, Measured>();
  const open = problems.filter((problem) => {
    const found = again ? undefined : table.problems[problem.key];
    if (found?.texts !== digest(textsOf(problem))) return true;
    known.set(problem.key, found);
    return false;
  });
  for (const [done, problem] of open.entries()) {
    yield { type: "tune", done, total: open.length, problem: problem.key };
    const found = await measure(device, problem);
    for (const [variant, reason] of Object.entries(found.refused)) {
      yield { type: "refused", problem: problem.key, variant, reason };
    }
    known.set(problem.key, found);
    table.problems[problem.key] = found;
    await writeTable(table, folder);
  }
  if (open.length > 0) yield { type: "tune", done: open.length, total: open.length, problem: "" };
  return known;
}

/** Checks and times every variant of a problem. */
async function measure(device: Device, problem: Problem): Promise<Measured> {
  const refused: Record<string, string> = {};
  const milliseconds: Record<string, number> = {};
  await checkSmall(device, problem, refused);
  using session = new Session(device);
  using trial = new Trial(session, problem);
  await checkWhole(trial, refused);
  let fastest = Infinity;
  for (const name of problem.candidates()) {
    if (name in refused) continue;
    const reason = await guarded(device, async () => {
      const first = await trial.milliseconds(name, 1);
      const runs = Math.min(MOST_RUNS, Math.ceil(TIMED_MILLISECONDS / first));
      const time = first > HOPELESS * fastest || runs < 2 ? first : await trial.milliseconds(name, runs);
      milliseconds[name] = time;
      fastest = Math.min(fastest, time);
    });
    if (reason !== undefined) refused[name] = reason;
  }
  const order = Object.entries(milliseconds).sort(([, a], [, b]) => a - b);
  return { texts: digest(textsOf(problem)), variant: order[0]?.[0] ?? problem.twin, milliseconds, refused };
}

/** Refuses variants that compute in a small size something else than the slow twin. */
async function checkSmall(device: Device, problem: Problem, refused: Record<string, string>): Promise<void> {
  using session = new Session(device);
  using trial = new Trial(session, problem.probe());
  const expected = await trial.results(problem.twin);
  for (const name of problem.candidates()) {
    const reason = await guarded(device, async () => {
      const wrong = difference(await trial.results(name), expected, problem.mixed);
      return wrong === undefined ? undefined : `${wrong} what ${problem.twin} computes`;
    });
    if (reason !== undefined) refused[name] = reason;
  }
}

/**
 * Refuses variants that differ in full size from the one that is preferred unmeasured. The twin may take a minute
 * there, so it is asked only where they differ, and then decides.
 */
async function checkWhole(trial: Trial, refused: Record<string, string>): Promise<void> {
  const { problem, session: { device } } = trial;
  const { twin, preferred, mixed } = problem;
  const found = new Map<string, readonly Result[]>();
  for (const name of problem.candidates()) {
    if (name in refused) continue;
    const reason = await guarded(device, async () => void found.set(name, await trial.results(name)));
    if (reason !== undefined) refused[name] = reason;
  }
  const usual = found.get(preferred);
  const agree = usual !== undefined && [...found.values()].every((results) => !difference(results, usual, mixed));
  if (agree) return;
  const expected = found.get(twin) ?? await trial.results(twin);
  for (const [name, results] of found) {
    const wrong = difference(results, expected, mixed);
    if (wrong !== undefined) refused[name] = `${wrong} what ${twin} computes in full size`;
  }
}

/** The variants to use, by keys of problems: those of the measured ones, and for nothing else. */
export function choicesOf(known: ReadonlyMap<string, Measured>): Map<string, string> {
  return new Map([...known].map(([key, { variant }]) => [key, variant]));
}
