/**
 * Makes docs/run_page.png of the page of a run: `deno run -A tests/screenshot.ts RUN/index.html docs/run_page.png`, and the
 * row of pixels to cut it at.
 */
import { resolve } from "node:path";
import { Chromium } from "./chromium.ts";

const [page, out, rows = "1500"] = Deno.args;
await using browser = await Chromium.start();
const opened = await browser.open(`file://${resolve(page!)}`, { width: 1100 });
await opened.until(`[...document.querySelectorAll("video")].every((video) => video.readyState >= 2)`);
// What a reader sees while they play.
await opened.evaluate(`for (const video of document.querySelectorAll("video")) {
  video.controls = false;
  video.currentTime = video.duration / 2;
}`);
await opened.until(`[...document.querySelectorAll("video")].every((video) => !video.seeking)`);
const file = `${out}.png`;
await Deno.writeFile(file, await opened.screenshot(Number(rows)));
// 128 colours are enough for lines, letters and small pictures, and a fourth of the bytes.
const palette = "split[a][b];[a]palettegen=max_colors=128:stats_mode=single[p];[b][p]paletteuse=dither=none";
await new Deno.Command("ffmpeg", { args: [..."-v error -y -i".split(" "), file, "-vf", palette, out!] }).output();
await Deno.remove(file);
