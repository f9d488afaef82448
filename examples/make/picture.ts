/**
 * The picture of a finished demo run, a looping GIF: `deno run -A examples/make/picture.ts RUN OUT.gif`. A column for each
 * validation prompt: its video before training above the one after it.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { encodeVideo, type RgbFrames } from "../../lib/data/video/video.ts";
import { readVideo } from "../../lib/sample/pictures.ts";
import type { SampleEvent, TrainEvent } from "../../lib/train/report/events.ts";
import { FPS, FRAMES, SIZE } from "./world.ts";

/** Pixels of the picture for a pixel of a video, and between two videos. */
const ZOOM = 3;
const GAP = 4;

const PAPER = 255;

/** Videos side by side, rows of rows, on white. */
function tile(rows: readonly (readonly RgbFrames[])[]): RgbFrames {
  const pitch = SIZE * ZOOM + GAP;
  const [height, width] = [rows.length * pitch - GAP, rows[0]!.length * pitch - GAP];
  const data = new Uint8Array(FRAMES * height * width * 3).fill(PAPER);
  rows.forEach((videos, row) =>
    videos.forEach((video, column) => {
      for (let t = 0; t < FRAMES; t++) {
        for (let y = 0; y < SIZE * ZOOM; y++) {
          for (let x = 0; x < SIZE * ZOOM; x++) {
            const from = 3 * ((t * SIZE + Math.floor(y / ZOOM)) * SIZE + Math.floor(x / ZOOM));
            const to = 3 * ((t * height + row * pitch + y) * width + column * pitch + x);
            data.set(video.data.subarray(from, from + 3), to);
          }
        }
      }
    })
  );
  return { data, frames: FRAMES, height, width };
}

const [run, out] = Deno.args as [string, string];
const events = readFileSync(join(run, "metrics.jsonl"), "utf8").trim().split("\n").map((line) =>
  JSON.parse(line) as TrainEvent
);
const samples = events.filter((event): event is SampleEvent => event.type === "sample");
const steps = [samples[0]!.step, samples.at(-1)!.step];
const rows = await Promise.all(steps.map((step) =>
  Promise.all(
    samples.filter((sample) => sample.step === step)
      .map(async ({ path }) => (await readVideo(path, { frames: FRAMES, fps: FPS })).video),
  )
));
await encodeVideo(out, tile(rows), { fps: FPS });
