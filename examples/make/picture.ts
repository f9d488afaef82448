/**
 * The picture of a finished demo run: `deno run -A examples/make/picture.ts RUN OUT.png`. Two rows for each validation prompt,
 * frames of its video before training and below those after it.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { encodePng } from "../../lib/data/video/png.ts";
import { writeFileAtomic } from "../../lib/io/atomic.ts";
import { readVideo } from "../../lib/sample/pictures.ts";
import type { SampleEvent, TrainEvent } from "../../lib/train/report/events.ts";
import { FPS, FRAMES, SIZE } from "./world.ts";

/** Pixels of the picture for a pixel of a video. */
const ZOOM = 2;

/** White pixels below a row, and below the two rows of a prompt. */
const GAPS = [2, 10] as const;

/** Frames of a video, the first and the last among them; five make a picture of more than 300 KB. */
const COLUMNS = 4;

const [run, out] = Deno.args as [string, string];
const samples = readFileSync(join(run, "metrics.jsonl"), "utf8").trim().split("\n")
  .map((line) => JSON.parse(line) as TrainEvent)
  .filter((event): event is SampleEvent => event.type === "sample");
const [first, last] = [samples[0]!.step, samples.at(-1)!.step];
const before = samples.filter(({ step }) => step === first);
const shown = before.flatMap((sample) => [
  sample,
  samples.find(({ step, prompt }) => step === last && prompt === sample.prompt)!,
]);

const width = COLUMNS * SIZE * ZOOM;
const heights = shown.map((_, i) => SIZE * ZOOM + GAPS[i % 2]!);
const height = heights.reduce((sum, rows) => sum + rows) - GAPS[1];
const picture = new Uint8Array(height * width * 3).fill(255);
let top = 0;
for (const [i, { path }] of shown.entries()) {
  const { video: { data } } = await readVideo(path, { frames: FRAMES, fps: FPS });
  for (let y = 0; y < SIZE * ZOOM; y++) {
    for (let x = 0; x < width; x++) {
      const frame = Math.round(Math.floor(x / (SIZE * ZOOM)) * (FRAMES - 1) / (COLUMNS - 1));
      const from = 3 * ((frame * SIZE + Math.floor(y / ZOOM)) * SIZE + Math.floor(x / ZOOM) % SIZE);
      picture.set(data.subarray(from, from + 3), 3 * ((top + y) * width + x));
    }
  }
  top += heights[i]!;
}
await writeFileAtomic(out, await encodePng(picture, width, height));
