/** Shows a run: one line that is drawn again and again for a person, plain lines for a file. */
import { join } from "node:path";
import { PAGE_NAME } from "../../sample/page.ts";
import type {
  CacheEvent,
  DownloadEvent,
  MemoryEvent,
  ProfileEvent,
  RankUsage,
  StepEvent,
  TrainEvent,
  TuneEvent,
} from "../../train/report/events.ts";
import type { Terminal } from "../machine/terminal.ts";
import { type LinePart, progressLine } from "./fit_line.ts";
import { profileLines } from "./profile.ts";
import { shortPath } from "./short_path.ts";
import { formatBytes, formatDuration, formatFlops } from "./text.ts";

/**
 * Share of the newest step in the mean time per step: slow enough for a steady forecast, fast enough to follow a
 * change.
 */
const newestShare = 0.1;

/** Prints events as they come. */
export class Progress {
  readonly #terminal: Terminal;
  #secondsPerStep: number | undefined;
  /** True while the cursor stands in a line that the next one replaces. */
  #drawn = false;
  /** File that is being downloaded. */
  #file: string | undefined;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  show(event: TrainEvent): void {
    switch (event.type) {
      case "download":
        return this.#showDownload(event);
      case "cache":
        return this.#showCache(event);
      case "tune":
        return this.#showTuning(event);
      case "step":
        return this.#draw(event.step / event.totalSteps, this.#stepParts(event));
      case "warning":
      case "skipped":
      case "range_test":
      case "finished":
        return this.result(describeEvent(event));
      case "memory":
        // The page of the run compares it with the plan.
        return;
      case "profile":
        for (const line of profileLines(event)) this.result(line);
        return;
      default:
        return this.line(describeEvent(event));
    }
  }

  /** Prints a line about what goes on. */
  line(text: string): void {
    this.finish();
    this.#terminal.status(`${text}\n`);
  }

  /** Prints a line that is told to whoever wants to hear nothing else, too. */
  result(text: string): void {
    this.finish();
    this.#terminal.write(`${text}\n`);
  }

  /** Ends the line that is being redrawn, so that what follows starts on its own. */
  finish(): void {
    if (this.#drawn) this.#terminal.write("\n");
    this.#drawn = false;
  }

  #showDownload({ model, file, done, total }: DownloadEvent): void {
    const text = `${model}: ${formatBytes(done)} of ${formatBytes(total)}`;
    if (this.#terminal.columns !== undefined) this.#draw(done / total, [{ text, rank: 0 }, { text: file, rank: 1 }]);
    // A log gets a line per file.
    else if (file !== this.#file) this.line(`downloading ${text}  ${file}`);
    this.#file = file;
  }

  #showCache({ kind, done, total, reused }: CacheEvent): void {
    const text = `encoded ${done}/${total} ${kind}s`;
    const again = `${reused} of them reused from the cache`;
    if (this.#terminal.columns !== undefined) this.#draw(done / total, [{ text, rank: 0 }, { text: again, rank: 1 }]);
    else if (done === total) this.line(`${text}, ${again}`);
  }

  #showTuning({ done, total, problem }: TuneEvent): void {
    const text = `measured kernels ${done}/${total}`;
    if (this.#terminal.columns !== undefined) this.#draw(done / total, [{ text, rank: 0 }, { text: problem, rank: 1 }]);
    else if (done === total) this.line(text);
  }

  #stepParts(event: StepEvent): LinePart[] {
    const { step, totalSteps, loss, gradNorm, learningRate, secondsPerStep, flopsPerSecond, gpuBytes, ranks } = event;
    const mean = this.#secondsPerStep ?? secondsPerStep;
    this.#secondsPerStep = mean + newestShare * (secondsPerStep - mean);
    const share = event.peakShare === undefined ? "" : ` (${formatPercent(event.peakShare)} of peak)`;
    return [
      { text: `step ${step}/${totalSteps}`, rank: 0 },
      { text: `loss ${loss.toFixed(4)}`, rank: 1 },
      { text: `grad norm ${gradNorm.toPrecision(3)}`, rank: 5 },
      { text: `lr ${learningRate.toExponential(2)}`, rank: 6 },
      { text: `${secondsPerStep.toPrecision(3)} s/step`, rank: 3 },
      { text: `${formatFlops(flopsPerSecond)}/s${share}`, rank: 7 },
      { text: `${formatDuration(this.#secondsPerStep * (totalSteps - step))} left`, rank: 2 },
      { text: ranks === undefined ? formatBytes(gpuBytes) : describeRanks(ranks), rank: 4 },
    ];
  }

  #draw(share: number, parts: readonly LinePart[]): void {
    const { columns } = this.#terminal;
    if (columns === undefined) return this.line(parts.map(({ text }) => text).join("  "));
    this.#terminal.redraw(progressLine(share, parts, columns));
    this.#drawn = true;
  }
}

/** Tenths only below ten percent. */
function formatPercent(share: number): string {
  return `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
}

/** As "slowest rank 3: 1.20 s, memory 12.1-12.4 GiB". */
function describeRanks(ranks: readonly RankUsage[]): string {
  const seconds = ranks.map((rank) => rank.seconds);
  const most = Math.max(...seconds);
  const bytes = ranks.map(({ gpuBytes }) => gpuBytes);
  const [from, unit] = formatBytes(Math.min(...bytes)).split(" ");
  const to = formatBytes(Math.max(...bytes));
  const range = to === `${from} ${unit}` ? to : `${to.endsWith(` ${unit}`) ? from : `${from} ${unit}`}-${to}`;
  return `slowest rank ${seconds.indexOf(most)}: ${most.toPrecision(3)} s, memory ${range}`;
}

function describeEvent(
  event: Exclude<TrainEvent, CacheEvent | DownloadEvent | MemoryEvent | ProfileEvent | StepEvent | TuneEvent>,
): string {
  switch (event.type) {
    case "started": {
      const { step, totalSteps, clips, parameters, device, outputDir } = event;
      const from = step === 0 ? `${totalSteps} steps` : `steps ${step + 1} to ${totalSteps}`;
      const count = parameters.toLocaleString("en-US");
      return [
        `Training ${count} parameters on ${clips} clips, ${from}, on ${device}`,
        `Output: ${shortPath(outputDir)}`,
        `Page of the run: ${shortPath(join(outputDir, PAGE_NAME))}`,
      ].join("\n");
    }
    case "skipped":
      return `step ${event.step} skipped: ${event.reason} in ${event.tensor} (clip ${event.clip}, timestep ${event.timestep})`;
    case "saved":
      return `saved ${shortPath(event.path)} (${formatBytes(event.bytes)}, ${formatDuration(event.seconds)})`;
    case "status":
      return event.message;
    case "warning":
      return `warning: ${event.message}`;
    case "sample":
      return `sampled ${shortPath(event.path)} (${formatDuration(event.seconds)})`;
    case "heldout": {
      const bands = event.bands.map(({ from, to, loss }) => `${from}-${to} ${loss.toFixed(4)}`).join(", ");
      return `held-out loss ${event.loss.toFixed(4)} after step ${event.step} (timesteps ${bands})`;
    }
    case "range_test": {
      if (event.result === undefined) return "No learning rate lowered the loss: look at the dataset and lr_range_min";
      const [lowest, suggested] = [event.result.lowest, event.result.suggested].map((rate) => rate.toPrecision(2));
      return `The loss was lowest after a learning rate of ${lowest}; try --learning_rate ${suggested}`;
    }
    case "finished": {
      const verb = event.interrupted ? "Stopped" : "Finished";
      const best = event.bestStep === undefined ? "" : `; lowest held-out loss: after step ${event.bestStep}`;
      return `${verb} after step ${event.step}, ${formatDuration(event.seconds)}; last checkpoint: ${
        shortPath(event.path)
      }${best}`;
    }
  }
}
