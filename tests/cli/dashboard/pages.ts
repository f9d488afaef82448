/** Output folders of runs that tests show: their pages are written by the records of a run, their videos by ffmpeg. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseConfig } from "../../../lib/config/config.ts";
import type { HeldOutEvent, TrainEvent } from "../../../lib/train/report/events.ts";
import { RunRecords } from "../../../lib/train/report/run_records.ts";

/** What nobody wants to see obeyed: markup, the end of a script, line breaks, letters that turn the reading direction. */
export const HOSTILE = `</script><img src=x onerror="document.title='broken'">\n\u202egpj.4pm & "quotes"`;

/** The smallest picture. */
const PICTURE = "data:image/jpeg;base64,/9j/4AAQ";

/** How a run differs from the others. */
export interface FakeRun {
  readonly rank?: number;
  /** Held-out loss at the end. */
  readonly heldOut?: number;
  /** Steps of 40 that are made; the run goes on unless it is all of them. */
  readonly steps?: number;
  readonly prompt?: string;
  /** Videos after every 20th step; their content. */
  readonly video?: Uint8Array;
}

/** A step of a run of 40. */
export function stepOf(step: number): TrainEvent {
  const loss = 0.2 + 1 / step + 0.1 * Math.sin(step * 2.3);
  const work = {
    flops: 4e12,
    trafficBytes: 2e9,
    flopsPerSecond: (2 + Math.sin(step / 5)) * 1e12,
    gpuBytes: 5.25 * 2 ** 30,
  };
  const rates = { learningRate: 1e-4 * Math.min(1, step / 10), secondsPerStep: 2 + 0.2 * Math.cos(step), ...work };
  return { type: "step", step, totalSteps: 40, loss, gradNorm: 0.5 + 1 / step, epoch: step / 4, ...rates };
}

function heldOutOf(step: number, end: number): HeldOutEvent {
  const bands = [0, 250, 500, 750].map((from, i) => ({ from, to: from + 249, loss: end + (40 - step) / 40 + i / 10 }));
  return { type: "heldout", step, loss: bands.reduce((sum, { loss }) => sum + loss, 0) / 4, bands };
}

/** Writes the folder of a run: a page, metrics.jsonl, videos. Returns its records where it goes on. */
export async function writeRun(
  folder: string,
  { rank = 16, heldOut = 0.3, steps = 40, prompt = "a kite", video = new Uint8Array() }: FakeRun = {},
): Promise<RunRecords | undefined> {
  mkdirSync(join(folder, "validation_res"), { recursive: true });
  const config = parseConfig("", { overrides: { preset: "2b-lora", output_dir: folder, rank, prompt } });
  const clips = [{ name: "videos/1.mp4", prompt, picture: PICTURE }, { name: prompt, prompt: "without a picture" }];
  const records = new RunRecords(config, 0, {
    told: [
      { type: "memory", phase: "video encoding", gpuBytes: 3 * 2 ** 30, plannedBytes: 3 * 2 ** 30 },
      { type: "warning", message: `prompt: ${prompt}` },
    ],
    dataset: { clips, samples: 30 },
  });
  const write = (event: TrainEvent) => records.write(event);
  const check = async (step: number) => {
    await write(heldOutOf(step, heldOut));
    const path = join(folder, "validation_res", `${step}.mp4`);
    Deno.writeFileSync(path, video);
    await write({ type: "sample", step, prompt, path, seconds: 1 });
  };
  await check(0);
  for (let step = 1; step <= steps; step++) {
    await write(stepOf(step));
    if (step === 7) {
      await write({ type: "skipped", step, reason: "overflow", clip: prompt, timestep: 9, tensor: "the gradients" });
      await write({ type: "memory", phase: "training", gpuBytes: 6 * 2 ** 30, plannedBytes: 5 * 2 ** 30 });
    }
    if (step % 20 === 0) {
      await check(step);
      const layers = [0, 1, 2].flatMap((block) =>
        ["to_q", "to_v"].map((kind) => `transformer_blocks.${block}.attn1.${kind}`)
      );
      const updateNorms = Object.fromEntries(layers.map((layer, i) => [layer, (i + 1) * step / 40]));
      await write({ type: "saved", step, path: join(folder, `checkpoint-${step}`), bytes: 1, seconds: 1, updateNorms });
    }
  }
  if (steps < 40) return records;
  await write({
    type: "finished",
    step: 40,
    seconds: 80,
    path: join(folder, "checkpoint-40"),
    interrupted: false,
    bestStep: 40,
  });
  records[Symbol.dispose]();
}
