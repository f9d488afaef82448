/** `cogtune tune`: measures the variants of kernels at the shapes of a run, and shows what it uses from then on. */
import { loadConfig } from "../../config/config.ts";
import type { TunedRun } from "../../train/tune_run.ts";
import { bytesOfProblem } from "../../tune/problems.ts";
import type { Peaks } from "../../tune/table.ts";
import type { Environment } from "../machine/environment.ts";
import { configArguments } from "../settings/arguments.ts";
import { type OwnFlag, takeOwn } from "../settings/own_flags.ts";
import { Progress } from "../show/progress.ts";
import { formatFlops, formatTable } from "../show/text.ts";

/** What `tune` takes besides settings. */
export const tuneFlags: readonly OwnFlag[] = [
  { name: "again", brief: "Measure what has been measured before, too" },
];

/** Runs the command; returns the exit code. */
export async function tuneCommand({ commands, terminal }: Environment, words: readonly string[]): Promise<number> {
  const { own, settings } = takeOwn(words, tuneFlags);
  const { config, notes } = await loadConfig(configArguments(settings));
  for (const note of notes) terminal.writeError(`note: ${note}\n`);
  const progress = new Progress(terminal);
  const tuning = commands.tune(config, { again: own.has("again") });
  for (;;) {
    const { done, value } = await tuning.next();
    if (done) {
      progress.finish();
      terminal.write(`${tunedLines(value).join("\n")}\n`);
      return 0;
    }
    if (value.type === "tune") progress.show(value);
  }
}

/** What the card can do at best, in one line. */
function peakLine({ operations, bytesPerSecond }: Peaks): string {
  const { units, f16, f32 } = operations;
  const flops = Object.entries({ "matrix units": units, "packed f16": f16, f32 })
    .flatMap(([name, rate]) => rate === undefined ? [] : [`${name} ${formatFlops(rate)}/s`]);
  const copied = bytesPerSecond === undefined ? [] : [`a copy ${(bytesPerSecond / 1e9).toFixed(0)} GB/s`];
  return `measured peaks: ${[...flops, ...copied].join(", ")}`;
}

/** The table: each problem with the variant that is used, its rates, and the others. */
export function tunedLines({ card, peaks, unknown, problems }: TunedRun): string[] {
  const rows = problems.map(({ problem, measured: { variant, milliseconds } }) => {
    const flops = problem.work(variant).launches.reduce((sum, { launch }) => sum + launch.flops, 0);
    const time = milliseconds[variant];
    const others = Object.entries(milliseconds).filter(([name]) => name !== variant).sort(([, a], [, b]) => a - b);
    return [
      problem.key,
      variant,
      time === undefined ? "" : `${time.toPrecision(3)} ms`,
      time === undefined ? "" : `${formatFlops(flops / time * 1000)}/s`,
      time === undefined ? "" : (bytesOfProblem(problem) / 1e6 / time).toFixed(0),
      others.map(([name, other]) => `${name} ${other.toPrecision(3)}`).join(", "),
    ];
  });
  const refused = problems.flatMap(({ problem, measured }) =>
    Object.entries(measured.refused).map(([name, reason]) => `refused: "${name}" for ${problem.key}: ${reason}`)
  );
  return [
    card,
    ...(peaks === undefined ? [] : [peakLine(peaks)]),
    ...unknown,
    ...formatTable(["problem", "variant", "time", "rate", "GB/s", "others (ms)"], rows),
    ...refused,
  ];
}
